"""`bench diff`: two configurations side by side. Parses, calls and prints."""

from dataclasses import dataclass
from pathlib import Path

import click

from bench.options import allocator_option, json_option, recipe_option
from distill.base.console import taking
from distill.spec.candidate import Allocator


@dataclass(frozen=True, kw_only=True)
class DiffOptions:
    """The command line of `bench diff`; recipe, target and allocator are of configurations."""

    a: str
    b: str
    cell: str | None
    recipe_name: str
    target_name: str
    allocator: Allocator | None
    plot: Path | None
    as_json: bool


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--cell", metavar="NAME|STAGE", help="Of files with several: this one in detail.")
@recipe_option
@click.option(
    "--target", "target_name", default="rtx4050", show_default=True, metavar="NAME|FILE",
    help="The card that a configuration is predicted for.",
)  # fmt: skip
@allocator_option
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw both timelines, one over the other.")  # fmt: skip
@json_option
@taking(DiffOptions)
def diff(options: DiffOptions) -> None:
    """Show what differs between A and B: bytes by owner, ops, the timeline. Needs no GPU.

    Each is a configuration, written as bench compare names it (student/fp16+ckpt/32x4: stage,
    precision and checkpointing, images x accumulation), or a file: a profile, a journal of trials,
    a baseline, or the answer of bench predict --json.
    """
    from bench.diff.show_diff import show_diff  # loads pydantic, which help must not

    click.echo(show_diff(options))
