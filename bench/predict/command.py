"""`bench predict`: one configuration, or the largest batch that fits. Parses, calls and prints."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import click

from bench.card.releases import release_notes
from bench.options import (
    VRAM,
    allocator_option,
    dataset_option,
    json_option,
    recipe_option,
    teacher_model_option,
    teacher_weights_option,
)
from distill.base.console import CountOr, OneOf, taking
from distill.base.errors import NoSafeChoice, UserError
from distill.base.files import check_apart
from distill.base.units import GIB, MIB
from distill.spec.bounds import (
    MOST_BLOCKS,
    MOST_CLASSES,
    MOST_IMAGES,
    MOST_PIXELS,
    MOST_PROCESSES,
    MOST_UPDATE_IMAGES,
    MOST_VRAM_GIB,
)
from distill.spec.candidate import (
    PRECISIONS,
    STAGES,
    Allocator,
    Checkpointing,
    Implementation,
    Optimizer,
    Precision,
    StageName,
    TeacherMode,
)

TEACHER_MODES: tuple[TeacherMode, ...] = get_args(TeacherMode)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The command line of `bench predict`; `None` leaves what the recipe says."""

    stage: StageName
    batch_size: int | None
    max_batch: bool
    vram: float | None
    limit_mib: int | None
    accumulation: int | Literal["recipe"]
    world_size: int
    precision: Precision
    checkpointing: Checkpointing
    recipe_name: str
    dataset: str | None
    model: str | None
    teacher: tuple[str, ...]
    teacher_weights: str | None
    teacher_model: str | None
    image_size: int | None
    classes: int | None
    optimizer: Optimizer | None
    implementation: Implementation
    target_name: str | None
    deterministic: bool
    allocator: Allocator | None
    as_json: bool
    plot: Path | None
    snapshot: Path | None
    explain: bool

    @property
    def teacher_name(self) -> str | None:
        """The timm name of another teacher, if one is asked for."""
        return next((word for word in self.teacher if word not in TEACHER_MODES), None)

    @property
    def teacher_mode(self) -> TeacherMode | None:
        """Where the teacher is, if that is asked for."""
        return next((mode for mode in TEACHER_MODES if mode in self.teacher), None)


@click.command()
@click.option("--stage", type=OneOf(STAGES), required=True, help="A stage of the recipe.")
@click.option(
    "--batch-size", type=click.IntRange(1, MOST_IMAGES), metavar="N", help="Images at a time."
)
@click.option("--max-batch", is_flag=True, help="Find the largest batch that fits in --vram.")
@click.option("--vram", type=VRAM, metavar="GIB", help="Memory of the card as its box says.")
@click.option("--limit-mib", type=click.IntRange(1, MOST_VRAM_GIB * GIB // MIB), metavar="MIB",
              help="What PyTorch may reserve, for --max-batch instead of --vram.")  # fmt: skip
@click.option("--accumulation", type=CountOr("recipe", at_most=MOST_UPDATE_IMAGES), default="1",
              show_default=True, metavar="N|recipe",
              help="Micro-batches an update; from the second on there are gradients already. "
                   "recipe: as many as make its update, as bench probe has it.")  # fmt: skip
@click.option("--world-size", type=click.IntRange(1, MOST_PROCESSES), default=1, show_default=True,
              metavar="N",
              help="Processes that share each update (torchrun): one of them, with the buckets "
                   "that gradients are sent in.")  # fmt: skip
@click.option("--precision", type=OneOf(PRECISIONS), default="fp16", show_default=True)
@click.option("--checkpointing", type=CountOr("cheap", at_least=0, at_most=MOST_BLOCKS),
              default="0", show_default=True, metavar="K|cheap",
              help="Run every K-th block again in backward; 0 is off. cheap: all of every block "
                   "but matrix products, convolutions and attention.")  # fmt: skip
@recipe_option
@dataset_option
@click.option("--model", metavar="NAME", help="Another student, by timm name.")
@click.option("--teacher", multiple=True, metavar="NAME|online|cached",
              help="Another teacher, by timm name; or where it is: in every step (online), or gone "
                   "with its logits cached. May come once for each.")  # fmt: skip
@teacher_weights_option
@teacher_model_option
@click.option("--image-size", type=click.IntRange(1, MOST_PIXELS), metavar="PX")
@click.option("--classes", type=click.IntRange(2, MOST_CLASSES), metavar="N")
@click.option("--optimizer", type=OneOf(get_args(Optimizer)))
@click.option("--implementation", type=OneOf(get_args(Implementation)), default="fused",
              show_default=True, help="How the optimizer runs.")  # fmt: skip
@click.option("--target", "target_name", metavar="NAME|FILE|auto",
              help="The card (bench cards); auto: the one that is here. Default: one of --vram, "
                   "else rtx4050.")  # fmt: skip
@click.option("--deterministic", is_flag=True, help="With deterministic kernels only.")
@allocator_option
@json_option
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the timeline of one update.")  # fmt: skip
@click.option("--snapshot", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the predicted history for PyTorch's memory viewer.")  # fmt: skip
@click.option("--explain", is_flag=True, help="What would help most, predicted.")
@taking(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict one configuration: peaks, and who owns each byte. Needs no GPU.

    Ends with whether it fits, and with exit code 4 where it does not.
    """
    if options.max_batch == (options.batch_size is not None):
        raise UserError("Give either --batch-size N, or --max-batch with --vram GIB.")
    if options.vram is not None and options.limit_mib is not None:
        raise UserError("Give either --vram GIB or --limit-mib MIB, not both.")
    if options.teacher_name is not None and options.teacher_weights is not None:
        raise UserError("Give either --teacher NAME or --teacher-weights FILE, not both.")
    if len(options.teacher) > len({word in TEACHER_MODES for word in options.teacher}):
        raise UserError("Give --teacher once with a name, and once with online or cached.")
    if options.max_batch and (options.vram, options.limit_mib, options.target_name) == (None,) * 3:
        raise UserError(
            "--max-batch needs --vram GIB or --target NAME: the memory that the batch is to fit in."
        )
    weights = (options.teacher_weights or "").rpartition("=")[2]
    places = {"--plot": options.plot, "--snapshot": options.snapshot}
    check_apart(places, options.recipe_name, options.target_name, weights)
    from bench.predict.answer import answer, request_of  # loads torch, which help must not

    found = answer(request_of(options))
    click.echo(found.text)
    if options.as_json:  # else the text says it
        for note in release_notes():
            click.echo(note, err=True)
    if not found.fits:
        sys.exit(NoSafeChoice.exit_code)
