"""The models to compare and their configurations: from the command line, as candidates. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.card.cards import has_bf16
from bench.models.model_figures import FULL_NAMES
from bench.predict.question import Question, candidate_for
from bench.probe.grid import CHECKPOINTING
from distill.base.errors import UserError
from distill.spec.candidate import PRECISIONS, Allocator, Candidate, Precision
from distill.spec.profile import Target
from distill.spec.recipe import Recipe

MOST_MODELS = 24
"""A model takes some ten seconds the first time."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models of a recipe on a card: a row of cells each, and the cell that is compared first."""

    recipe: Recipe
    target: Target
    allocator: Allocator
    limit_bytes: int
    precision: Precision
    micro_batch: int
    models: tuple[tuple[Candidate, ...], ...]

    @property
    def precisions(self) -> list[Precision]:
        """The precisions that the card has."""
        return precisions_of(self.target)

    def is_first(self, candidate: Candidate) -> bool:
        """True of the cell of a model with which models are compared and the largest batch found.

        In the precision that was asked for, with nothing run again.
        """
        return candidate.precision == self.precision and candidate.checkpointing == 0


def comparison(
    recipe: Recipe,
    names: str,
    *,
    target: Target,
    allocator: Allocator,
    limit_bytes: int,
    precision: Precision,
    micro_batch: int,
) -> Comparison:
    """The comparison of the models that are named, with commas between them.

    Raises `UserError` for none, for too many, and for a precision that the card does not have.
    """
    if precision not in precisions_of(target):
        raise UserError(
            f"{target.title} has no {precision}, which needs compute capability 8.0. "
            "Give --precision fp16 or fp32."
        )
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not 1 <= len(wanted) <= MOST_MODELS:
        raise UserError(
            f"--models names {len(wanted)} models. Name 1 to {MOST_MODELS}, with commas between."
        )
    alone = [_alone(recipe, name, micro_batch) for name in wanted]
    return Comparison(
        recipe=recipe,
        target=target,
        allocator=allocator,
        limit_bytes=limit_bytes,
        precision=precision,
        micro_batch=micro_batch,
        models=tuple(tuple(_cells(one, target)) for one in dict.fromkeys(alone)),
    )


def precisions_of(target: Target) -> list[Precision]:
    """All precisions, bf16 only where the card has it."""
    has_all = has_bf16(target.compute_capability)
    return [precision for precision in PRECISIONS if precision != "bf16" or has_all]


def _alone(recipe: Recipe, name: str, micro_batch: int) -> Candidate:
    """The model trained by itself under the recipe, one micro-batch an update.

    A stage's name means the recipe's own model, another is built in timm's own shape. Patches are
    not left out, as a CNN has none.
    """
    own = {stage.name: stage.name for stage in recipe.stage}.get(name)  # type: ignore[call-overload]
    stage = own or recipe.stage[0].name
    question = Question(
        stage=stage, batch_size=micro_batch, model=None if own else FULL_NAMES.get(name, name)
    )
    return replace(
        candidate_for(recipe, question),
        stage=recipe.stage[0].name,
        teacher=None,
        teacher_logits="online",
        patch_drop_rate=0.0,
        soft_loss="kl",
    )


def _cells(alone: Candidate, target: Target) -> Sequence[Candidate]:
    return [
        replace(alone, precision=precision, checkpointing=checkpointing)
        for precision in precisions_of(target)
        for checkpointing in CHECKPOINTING
    ]
