"""The grid: which configurations a probe looks at. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from bench.card.cards import has_bf16
from distill.base.errors import UserError
from distill.spec.candidate import (
    PRECISIONS,
    Candidate,
    Checkpointing,
    StageName,
    TeacherMode,
)
from distill.spec.profile import Target
from distill.spec.recipe import Recipe
from distill.spec.teacher_mode import asked_modes, with_modes

MICRO_BATCHES = tuple(2**power for power in range(10))
"""1, 2, 4 … 512; one alone only where it may be chosen (`worth_asking`)."""

CHECKPOINTING: tuple[Checkpointing, ...] = (0, "cheap", 1)


def teacher_variants(
    recipe: Recipe, asked: TeacherMode | Literal["auto"] | None, views: int | None
) -> list[Recipe]:
    """The recipe with each teacher mode that is asked for; `auto` is online, then cached.

    `asked` of `None` leaves the modes of the recipe. Raises `UserError` where a teacher can't be
    cached.
    """
    if asked == "online" and views is not None:
        raise UserError("--teacher-views says how many views are cached: leave it out.")
    online = with_modes(recipe, asked_modes(recipe, "online", None))
    cached = [] if asked == "online" else _cached(recipe, asked, views)
    return [online, *cached] if asked in ("online", "auto") else cached


def _cached(
    recipe: Recipe, asked: TeacherMode | Literal["auto"] | None, views: int | None
) -> list[Recipe]:
    """The recipe with cached teachers; where nothing is asked, with those that it has."""
    mode: TeacherMode | None = None if asked is None else "cached"
    return [with_modes(recipe, asked_modes(recipe, mode, views))]


def families(recipe: Recipe, target: Target, variants: Sequence[Recipe] = ()) -> list[Candidate]:
    """Stage × teacher × precision × checkpointing, each as a candidate whose batch is still open.

    `variants` are the recipe with its teachers where they may be. bf16 needs a card that has it.
    """
    precisions = [
        precision
        for precision in PRECISIONS
        if precision != "bf16" or has_bf16(target.compute_capability)
    ]
    found = [
        replace(
            variant.candidate(stage.name),
            precision=precision,
            checkpointing=checkpointing,
            implementation="fused",
        )
        for stage in recipe.stage
        for variant in variants or [recipe]
        for precision in precisions
        for checkpointing in CHECKPOINTING
    ]
    return list(dict.fromkeys(found))  # a stage that nothing teaches is the same in each


def cached_views(variants: Sequence[Recipe]) -> dict[StageName, int]:
    """Views of an image whose logits are cached, by stage; none of a stage that is only online."""
    candidates = {
        stage.name: (recipe.training_of(stage.name), recipe.candidate(stage.name))
        for recipe in variants
        for stage in recipe.stage
    }
    return {
        name: training.cached_views(candidate.input)
        for name, (training, candidate) in candidates.items()
        if candidate.teacher_logits == "cached"
    }


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
