"""`bench verify`: a profile proven on the GPU that is here. Parses, calls and prints."""

import sys
from pathlib import Path

import click


@click.command()
@click.argument("profile_path", type=click.Path(path_type=Path), metavar="PROFILE")
def verify(profile_path: Path) -> None:
    """Prove a profile on the GPU that is here: it fits under its cap, and not below it.

    Each choice trains in a fresh process for a minute or 200 updates, saves, loads and
    evaluates; then a few MiB less than predicted must not be enough. Exit code 1: not safe.
    """
    from bench.verify.verify import verify_file  # loads pydantic, which help must not

    sys.exit(0 if verify_file(profile_path, click.echo) else 1)
