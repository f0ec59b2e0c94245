"""`distill attention`: where a trained model looks, as pictures."""

from dataclasses import dataclass
from pathlib import Path

import click

from distill.base.console import OneOf, at_most_one, taking
from distill.base.errors import UserError
from distill.base.files import check_folder
from distill.cli.run_argument import run_and_images
from distill.spec.bounds import MOST_BLOCKS, MOST_HEADS
from distill.spec.candidate import STAGES, StageName


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """The command line of `distill attention`."""

    places: tuple[Path, ...]
    stage: StageName | None
    images: tuple[Path, ...]
    layer: int | None
    head: int | None
    all_heads: bool
    rollout: bool
    out: Path | None
    data_dir: Path
    device: str


_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("places", nargs=-1, type=_PATH, metavar="[RUN]")
@click.option("--stage", type=OneOf(STAGES), help="One stage. Default: every finished one.")
@click.option("--images", multiple=True, type=_PATH, metavar="DIR|FILE…",
              help="Images, and folders of them. Default: some of its test.")  # fmt: skip
@click.option("--layer", type=click.IntRange(0, MOST_BLOCKS), metavar="L",
              help="Heads of this block, from 0. Default: the last one.")  # fmt: skip
@click.option("--head", type=click.IntRange(0, MOST_HEADS), metavar="H", help="One head, from 0.")
@click.option("--all-heads", is_flag=True, help="All heads, a picture for each image.")
@click.option("--rollout", is_flag=True,
              help="All blocks together: rollout, and the stages compared.")  # fmt: skip
@click.option("--out", type=_PATH, metavar="DIR",
              help="Where the pictures go. Default: visualizations/ of each stage.")  # fmt: skip
@click.option("--data-dir", type=_PATH, default=Path("data"), show_default=True, metavar="DIR",
              help="Where downloaded data sets are kept.")  # fmt: skip
@click.option("--device", type=OneOf(["auto", "cuda", "cpu"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
@taking(AttentionOptions)
def attention(options: AttentionOptions) -> None:
    """Draw where each stage's best checkpoint looks, over the images as it sees them.

    RUN is the folder of a run, as in results/from_scratch/digits; it may be left out where
    results/ holds one run. Without --head, --all-heads or --rollout: what `distill run` draws at
    the end of each stage, the rollout of each image and all heads of the last block for one.
    """
    _check(options)
    folder, images = run_and_images(options.places, options.images)
    # loads torch and matplotlib, which help must not
    from distill.report.attention.run_pictures import Wanted, draw_run

    wanted = Wanted(
        stage=options.stage,
        images=images,
        layer=options.layer,
        head=options.head,
        all_heads=options.all_heads,
        rollout=options.rollout,
        out=options.out,
        data_dir=options.data_dir,
        device=options.device,
    )
    for path in draw_run(folder, wanted):
        click.echo(f"Wrote {path}")


def _check(options: AttentionOptions) -> None:
    """Refuse what contradicts itself, and a place that can't be written."""
    at_most_one(
        {"--head": options.head, "--all-heads": options.all_heads, "--rollout": options.rollout}
    )
    if options.rollout and options.layer is not None:
        raise UserError("--rollout is over all blocks: leave out --layer.")
    if options.out is not None:
        check_folder(options.out)
        for place in options.images:
            if place.is_dir() and options.out.resolve().is_relative_to(place.resolve()):
                raise UserError(
                    f"--out {options.out} lies in {place}, where its pictures would be taken for "
                    "images the next time. Name another folder."
                )
