"""The grid: which configurations a probe looks at. Pure."""

from dataclasses import replace

from bench.card.cards import has_bf16
from distill.spec.candidate import PRECISIONS, Candidate, Checkpointing, StageName
from distill.spec.profile import Target
from distill.spec.recipe import Recipe

MICRO_BATCHES = tuple(2**power for power in range(10))
"""1, 2, 4 … 512."""

CHECKPOINTING: tuple[Checkpointing, ...] = (0, "cheap", 1)


def families(recipe: Recipe, target: Target) -> list[Candidate]:
    """Stage × precision × checkpointing, each as a candidate whose batch is still open.

    bf16 needs a card that has it in hardware.
    """
    precisions = [
        precision
        for precision in PRECISIONS
        if precision != "bf16" or has_bf16(target.compute_capability)
    ]
    return [
        replace(
            recipe.candidate(stage.name),
            precision=precision,
            checkpointing=checkpointing,
            implementation="fused",
        )
        for stage in recipe.stage
        for precision in precisions
        for checkpointing in CHECKPOINTING
    ]


def cells(family: Candidate, effective_batch: int) -> list[Candidate]:
    """A family at every micro-batch of the grid."""
    return [family.with_batch(batch, effective_batch) for batch in MICRO_BATCHES]


def effective_batches(recipe: Recipe) -> dict[StageName, int]:
    """Images per update, by stage."""
    return {stage.name: recipe.training_of(stage.name).effective_batch for stage in recipe.stage}


def profile_name(recipe: Recipe, vram_gib: float, target: Target, *, imitated: bool) -> str:
    """The default name of a profile: the card's for the main recipe at its size.

    Of a larger card that imitates one of that size it says so.
    """
    if imitated:
        return f"{recipe.file_name}-{vram_gib:g}gb-on-{target.name}"
    if recipe.name == "cifar10" and vram_gib == 6:
        return target.name
    return f"{recipe.file_name}-{vram_gib:g}gb"
