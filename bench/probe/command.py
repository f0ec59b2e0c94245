"""`bench probe`: the whole grid and a profile. Parses, calls and prints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import click

from bench.options import (
    VRAM,
    allocator_option,
    dataset_option,
    recipe_option,
    teacher_model_option,
    teacher_weights_option,
)
from distill.base.console import OneOf, loaded, taking
from distill.spec.bounds import MOST_PIXELS, MOST_TEACHER_VIEWS
from distill.spec.candidate import Allocator, TeacherMode


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """The command line of `bench probe`."""

    vram: float
    recipe_name: str
    dataset: str | None
    model: tuple[str, ...]
    image_size: int | None
    teacher_weights: str | None
    teacher_model: str | None
    teacher: TeacherMode | Literal["auto"] | None
    teacher_views: int | None
    device: Literal["auto", "cuda", "cpu", "predict"]
    target_name: str
    allocator: Allocator | None
    out: Path | None
    results: Path
    force: bool


@click.command()
@click.option("--vram", type=VRAM, required=True, metavar="GIB",
              help="Memory of the card as its box says, in GiB.")  # fmt: skip
@recipe_option
@dataset_option
@click.option("--model", multiple=True, metavar="STAGE=NAME",
              help="Another model in a stage, by timm name; may come once a stage.")  # fmt: skip
@click.option("--image-size", type=click.IntRange(1, MOST_PIXELS), metavar="PX",
              help="Pixels to which images are brought. Default: the recipe's.")  # fmt: skip
@teacher_weights_option
@teacher_model_option
@click.option("--teacher", type=OneOf([*get_args(TeacherMode), "auto"]),
              help="Where teachers are: online in every step; cached, gone once their logits are "
                   "kept; auto, whatever makes the stage shorter. Default: as the recipe says, "
                   "else online, which leaves what is learnt as it is.")  # fmt: skip
@click.option("--teacher-views", type=click.IntRange(1, MOST_TEACHER_VIEWS), metavar="N",
              help="Views of an image that a cached teacher sees.")  # fmt: skip
@click.option("--device", type=OneOf(["auto", "cuda", "cpu", "predict"]), default="auto",
              show_default=True,
              help="auto measures where CUDA is, else predicts; cpu only times.")  # fmt: skip
@click.option("--target", "target_name", default="auto", show_default=True,
              metavar="NAME|FILE|auto",
              help="The card that numbers are for (bench cards); auto: this one, else one of "
                   "--vram.")  # fmt: skip
@allocator_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The profile. Default: profiles/rtx4050.json for recipe cifar10 at 6 GiB, "
                   "else profiles/<recipe>-<N>gb.json.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"),
              show_default=True, metavar="DIR",
              help="Where trials, tables and pictures go.")  # fmt: skip
@click.option("--force", is_flag=True, help="Make every trial again, those done before too.")
@taking(ProbeOptions)
def probe(options: ProbeOptions) -> None:
    """Look at every stage × precision × checkpointing × batch and write a profile."""
    loaded("bench.probe.probe:run_probe")(options)
