"""The plan of a stage, decided from values before torch is loaded: what is trained, and how.

Authority: command line, then profile, then recipe. Trains nothing and reads no data.
"""

from dataclasses import dataclass, replace
from typing import Literal

from distill.base.errors import UserError
from distill.base.whole_path import text_path
from distill.spec.candidate import (
    Balance,
    Candidate,
    Checkpointing,
    Criterion,
    Implementation,
    Optimizer,
    Precision,
    Schedule,
    StageName,
    TeacherMode,
)
from distill.spec.image_source import whole_name
from distill.spec.own_teacher import AskedTeacher
from distill.spec.pins import Pins, default_allocator, pins_for
from distill.spec.profile import Budget, Choice, Profile
from distill.spec.recipe import Recipe, Stage, checked
from distill.spec.teacher_mode import with_asked_mode
from distill.spec.training import Training

DeviceKind = Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class RecipeChanges:
    """Values of the command line over the recipe's; `None` asks for nothing."""

    dataset: str | None = None
    pretrained: bool | None = None
    seed: int | None = None
    skip_unreadable: bool | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_epochs: float | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    step_epochs: int | None = None
    criterion: Criterion | None = None
    patience: int | None = None
    balance: Balance | None = None
    alpha: float | None = None
    temperature: float | None = None
    teacher: AskedTeacher | None = None
    teacher_mode: TeacherMode | None = None
    teacher_views: int | None = None


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
        return self.training.cached_views if cached else None


def changed_recipe(
    recipe: Recipe, changes: RecipeChanges, profile: Profile | None = None
) -> Recipe:
    """The recipe with the changes laid over it and over every stage's own values.

    Where each teacher is, a profile has chosen; the changes go before it. A folder of images is
    named by its whole path, so that the run knows it from anywhere.
    Raises `UserError` where the changed recipe is not possible.
    """
    dataset = recipe.dataset if changes.dataset is None else changes.dataset
    whole = _asked(
        dataset=whole_name(dataset),
        pretrained=changes.pretrained,
        seed=changes.seed,
        skip_unreadable=changes.skip_unreadable,
    )
    training = _asked(
        epochs=changes.epochs,
        learning_rate=changes.learning_rate,
        weight_decay=changes.weight_decay,
        warmup_epochs=changes.warmup_epochs,
        optimizer=changes.optimizer,
        schedule=changes.schedule,
        step_epochs=changes.step_epochs,
        criterion=changes.criterion,
        patience=changes.patience,
        balance=changes.balance,
    )
    loss = _asked(alpha=changes.alpha, temperature=changes.temperature)
    recipe = with_own_teacher(recipe, changes.teacher)
    recipe = with_asked_mode(recipe, profile, changes.teacher_mode, changes.teacher_views)
    changed = recipe.model_copy(
        update=whole
        | {
            "training": recipe.training.model_copy(update=training),
            "distillation": recipe.distillation.model_copy(update=loss),
            "stage": tuple(_changed_stage(stage, training) for stage in recipe.stage),
        }
    )
    return checked(changed.model_dump_json(), recipe.name)


def with_own_teacher(recipe: Recipe, asked: AskedTeacher | None) -> Recipe:
    """The recipe in which a trained model teaches the stage that was named, if one was.

    With `all` it takes the place of the chain's first stage, which is then not trained; a first
    stage that teaches no other is taught by it.
    """
    if asked is None:
        return recipe
    first = recipe.stage[0].name
    taught = [stage.name for stage in recipe.stage if stage.taught_by == first]
    replaced = first if asked.stage == "all" and taught else None
    if replaced is None:
        taught = [first if asked.stage == "all" else recipe.stage_named(asked.stage).name]
    update = {"taught_by": None, "own_teacher": asked.own}
    stages = tuple(
        stage.model_copy(update=update) if stage.name in taught else stage
        for stage in recipe.stage
        if stage.name != replaced
    )
    return recipe.model_copy(update={"stage": stages})


def _changed_stage(stage: Stage, training: dict[str, object]) -> Stage:
    """The stage with other training values; its own teacher by its whole path."""
    update: dict[str, object] = {"training": stage.training | training}
    if stage.own_teacher is not None:
        whole = text_path(stage.own_teacher.weights)
        update["own_teacher"] = stage.own_teacher.model_copy(update={"weights": whole})
    return stage.model_copy(update=update)


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
    mode = recipe.candidate(stage.name).teacher_logits
    candidate = _overridden(replace(base, teacher_logits=mode), overrides, training)
    overridden = None
    if profile is not None and not _same_memory(candidate, base, device):
        overridden = candidate
    notes: list[str] = []
    if device == "cpu":
        candidate, notes = _for_cpu(candidate, overrides)
    notes += _warmup_notes(training)
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


def _taught_by(recipe: Recipe, stage: Stage) -> str | None:
    own = recipe.own_teacher_of(stage.name)
    return stage.taught_by if own is None else own.title


def _asked(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _same_memory(candidate: Candidate, chosen: Candidate, device: DeviceKind) -> bool:
    """True if nothing that costs memory differs; deterministic kernels exist on CUDA only."""
    if device == "cpu":
        candidate = replace(candidate, deterministic=chosen.deterministic)
    return candidate == chosen


def _overridden(candidate: Candidate, overrides: Overrides, training: Training) -> Candidate:
    effective_batch = training.effective_batch
    changed = replace(
        candidate,
        deterministic=overrides.deterministic,
        optimizer=training.optimizer,
        class_weights=training.balance == "weights",
    )
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
    plain: Implementation = "foreach"
    there = replace(
        candidate,
        precision=overrides.precision or "fp32",
        checkpointing=overrides.checkpointing or 0,
        implementation=plain,
    )
    changes = []
    if there.precision != candidate.precision:
        changes.append(f"{candidate.precision} becomes {there.precision}")
    if there.checkpointing != candidate.checkpointing:
        changes.append(f"checkpointing {candidate.checkpointing} becomes {there.checkpointing}")
    notes = [f"On a CPU: {', '.join(changes)}."] if changes else []
    return there, notes


def _warmup_notes(training: Training) -> list[str]:
    if training.warmup_epochs < training.epochs:
        return []
    return [
        f"Warms up for {training.warmup_epochs:g} of {training.epochs} epochs, so the learning "
        f"rate never reaches {training.learning_rate:g}. Fewer: --warmup-epochs."
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
