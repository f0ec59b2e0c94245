"""`bench models`: CNN against ViT. Parses, calls and prints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from bench.options import VRAM, allocator_option, evidence_option, json_option, recipe_option
from distill.base.console import OneOf, at_most_one, loaded, taking
from distill.base.files import check_apart
from distill.spec.bounds import MOST_IMAGES
from distill.spec.candidate import PRECISIONS, Allocator, Precision

DEFAULT_MODELS = "resnet50,vit_base,resnet18,vit_tiny"
"""The four that the write-up compares, in its order."""

FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """The command line of `bench models`; without `runs` those below results/ are looked at."""

    recipe_name: str
    models: str
    batch_size: int
    precision: Precision
    vram: float | None
    target_name: str | None
    allocator: Allocator | None
    device: Literal["predict", "cuda"]
    runs: tuple[Path, ...]
    evidence: Path
    as_json: bool
    markdown: bool
    as_csv: bool
    plot: Path | None


@click.command()
@recipe_option
@click.option("--models", default=DEFAULT_MODELS, show_default=True, metavar="NAME,NAME,…",
              help="timm names; teacher, assistant, student are the recipe's own.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, MOST_IMAGES), default=32, show_default=True,
              metavar="N", help="Images an update that all models are compared at.")  # fmt: skip
@click.option("--precision", type=OneOf(PRECISIONS), default="fp16", show_default=True,
              help="Of the first comparison and the largest batch; the last tables have all that "
                   "the card has.")  # fmt: skip
@click.option("--vram", type=VRAM, metavar="GIB", help="Memory of the card as its box says.")
@click.option("--target", "target_name", metavar="NAME|FILE|auto",
              help="The card (bench cards); auto: the one that is here. Default: one of --vram, "
                   "else rtx4050.")  # fmt: skip
@allocator_option
@click.option("--device", type=OneOf(["predict", "cuda"]), default="predict",
              show_default=True,
              help="cuda also times each model once, on the GPU that is here.")  # fmt: skip
@click.option("--run", "runs", type=FILE, multiple=True, metavar="RUN",
              help="A run's folder whose accuracies are shown; may come often. Default: every run "
                   "below results/.")  # fmt: skip
@evidence_option
@json_option
@click.option("--markdown", is_flag=True, help="The tables as Markdown.")
@click.option("--csv", "as_csv", is_flag=True, help="Every configuration as a line of CSV.")
@click.option("--plot", type=FILE, metavar="FILE", help="Draw memory against speed.")
@taking(ModelsOptions)
def models(options: ModelsOptions) -> None:
    """Compare models trained alone: size, memory, speed, accuracy. Needs no GPU.

    Then what checkpointing saves and costs each, and what half precision gains it.
    """
    at_most_one(
        {"--json": options.as_json, "--markdown": options.markdown, "--csv": options.as_csv}
    )
    check_apart({"--plot": options.plot}, options.recipe_name, options.target_name)
    click.echo(loaded("bench.models.model_answer:answer_text")(options))
