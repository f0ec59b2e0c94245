"""The plan of a stage, decided from values before torch is loaded: what is trained, and how.

Authority: command line, then profile, then recipe. Trains nothing and reads no data.
"""

from dataclasses import dataclass, replace
from typing import Literal

from distill.base.errors import UserError
from distill.spec.candidate import (
    Candidate,
    Checkpointing,
    Precision,
    StageName,
)
from distill.spec.pins import Pins, default_allocator, pins_for
from distill.spec.profile import Budget, Choice, Profile
from distill.spec.recipe import Recipe, Stage
from distill.spec.training import Training

DeviceKind = Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Values of the command line over the profile's; `None` asks for nothing."""

    batch_size: int | None = None
    precision: Precision | None = None
    checkpointing: Checkpointing | None = None
    deterministic: bool = False


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage, decided: its candidate, how long it trains, and what it is held to.

    `overridden` is the candidate as the profile's card would run it, when the command line asks
    for something else than the profile chose; it is to be held against the prediction. `choice`
    is the profile's, or what the prediction says of the other. `taught_by` is an earlier stage,
    or a model of the user's own, in words.
    """

    candidate: Candidate
    overridden: Candidate | None
    training: Training
    taught_by: str | None
    pins: Pins | None
    budget: Budget | None
    choice: Choice | None
    notes: tuple[str, ...]

    @property
    def cached_views(self) -> int | None:
        """Views of each image whose teacher's logits are cached; `None` with an online teacher."""
        cached = self.candidate.teacher_logits == "cached"
        return self.training.cached_views(self.candidate.input) if cached else None


def chosen_stages(recipe: Recipe, wanted: StageName | Literal["all"]) -> list[Stage]:
    """The stages to run, in the recipe's order."""
    if wanted == "all":
        return list(recipe.stage)
    return [recipe.stage_named(wanted)]


def plan_stage(
    recipe: Recipe,
    stage: Stage,
    *,
    profile: Profile | None,
    overrides: Overrides,
    device: DeviceKind,
    compute_capability: tuple[int, int] | None = None,
) -> StagePlan:
    """Join recipe, profile and command line for one stage.

    Raises `UserError` where they contradict each other.
    """
    training = recipe.training_of(stage.name)
    base, choice = recipe.candidate(stage.name), None
    if profile is not None:
        choice = profile.choice_for(recipe, stage.name)
        base = choice.candidate
    elif device == "cuda":
        base = replace(base, precision="fp16")
    candidate = _overridden(_as_asked(base, recipe), overrides, training)
    overridden = None
    if profile is not None and not _same_memory(candidate, base, device):
        overridden = candidate
    notes: list[str] = []
    if device == "cpu":
        candidate, notes = _for_cpu(candidate, overrides)
    else:
        _check_on_card(candidate)
    notes += _notes(candidate, training)
    return StagePlan(
        candidate=candidate,
        overridden=overridden,
        training=training,
        taught_by=_taught_by(recipe, stage),
        pins=None if device == "cpu" else _pins(candidate, profile, compute_capability),
        budget=None if profile is None else profile.budget,
        choice=None if overridden else choice,
        notes=tuple(notes),
    )


def _check_on_card(candidate: Candidate) -> None:
    """Refuse what is not predicted on a card."""
    if candidate.deterministic and candidate.patch_drop_rate:
        raise UserError(
            f"Stage {candidate.stage}: with --deterministic a card adds up the gradients of left "
            "out patches in many times the memory, which is not predicted. Leave out one of "
            "--deterministic and --patch-drop-rate."
        )


def _taught_by(recipe: Recipe, stage: Stage) -> str | None:
    own = recipe.own_teacher_of(stage.name)
    return stage.taught_by if own is None else own.title


def _same_memory(candidate: Candidate, chosen: Candidate, device: DeviceKind) -> bool:
    """True if nothing that costs memory differs; deterministic kernels exist on CUDA only."""
    if device == "cpu":
        candidate = replace(candidate, deterministic=chosen.deterministic)
    return candidate == chosen


def _as_asked(candidate: Candidate, recipe: Recipe) -> Candidate:
    """The profile's candidate with what the recipe, perhaps another, says of mixing and update."""
    asked = recipe.candidate(candidate.stage)
    return replace(
        candidate,
        input=asked.input,
        optimizer=asked.optimizer,
        class_weights=asked.class_weights,
        patch_drop_rate=asked.patch_drop_rate,
        label_smoothing=asked.label_smoothing,
        layer_decay=asked.layer_decay,
        soft_loss=asked.soft_loss,
        teacher_logits=asked.teacher_logits,
    )


def _overridden(candidate: Candidate, overrides: Overrides, training: Training) -> Candidate:
    effective_batch = training.effective_batch
    changed = replace(candidate, deterministic=overrides.deterministic)
    if overrides.precision is not None:
        changed = replace(changed, precision=overrides.precision)
    if overrides.checkpointing is not None:
        changed = replace(changed, checkpointing=overrides.checkpointing)
    if overrides.batch_size is not None and overrides.batch_size != changed.micro_batch:
        if overrides.batch_size > effective_batch:
            raise UserError(
                f"--batch-size {overrides.batch_size} is more than the {effective_batch} images "
                "per update that the recipe fixes. Choose at most that; the rest is accumulated."
            )
        changed = changed.with_batch(overrides.batch_size, effective_batch)
    return changed


def _for_cpu(candidate: Candidate, overrides: Overrides) -> tuple[Candidate, list[str]]:
    """The candidate on a CPU: fp32, nothing checkpointed, unless the command line says so."""
    there = replace(
        candidate,
        precision=overrides.precision or "fp32",
        checkpointing=overrides.checkpointing or 0,
    )
    changes = []
    if there.precision != candidate.precision:
        changes.append(f"{candidate.precision} becomes {there.precision}")
    if there.checkpointing != candidate.checkpointing:
        changes.append(f"checkpointing {candidate.checkpointing} becomes {there.checkpointing}")
    notes = [f"On a CPU: {', '.join(changes)}."] if changes else []
    return there, notes


def _notes(candidate: Candidate, training: Training) -> list[str]:
    """What a user may not expect of these values."""
    notes = []
    if candidate.input.mixes:
        notes.append("Training scores hold a mixed image against its own label alone.")
    if training.warmup_epochs < training.epochs:
        return notes
    return [
        *notes,
        f"Warms up for {training.warmup_epochs:g} of {training.epochs} epochs, so the learning "
        f"rate never reaches {training.learning_rate:g}. Fewer: --warmup-epochs.",
    ]


def _pins(
    candidate: Candidate, profile: Profile | None, compute_capability: tuple[int, int] | None
) -> Pins:
    assert compute_capability is not None
    allocator = default_allocator() if profile is None else profile.allocator
    return pins_for(
        candidate.precision,
        compute_capability,
        deterministic=candidate.deterministic,
        allocator=allocator,
    )
