"""The argument `[RUN]` of the commands that look at a run which is there."""

from collections.abc import Sequence
from pathlib import Path

import click

run_argument = click.argument(
    "folder", type=click.Path(path_type=Path), required=False, metavar="[RUN]"
)


def run_and_images(
    places: Sequence[Path], images: Sequence[Path]
) -> tuple[Path | None, tuple[Path, ...]]:
    """The run's folder and all images, of what a shell made of `RUN --images *.png`.

    The first place is the run where it is one, or where no option names an image: what is
    left over from a pattern behind `--images` is an image too.
    """
    if places and (not images or (places[0] / "run.json").is_file()):
        return places[0], (*images, *places[1:])
    return None, (*images, *places)
