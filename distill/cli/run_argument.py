"""The argument `[RUN]` of the commands that look at a run which is there."""

from pathlib import Path

import click

run_argument = click.argument(
    "folder", type=click.Path(path_type=Path), required=False, metavar="[RUN]"
)
