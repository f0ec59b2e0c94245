"""The command line over a recipe: every value that it may change, laid over the file's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from distill.base.whole_path import text_path
from distill.spec.candidate import (
    Balance,
    Criterion,
    Optimizer,
    Schedule,
    SoftLoss,
    TeacherMode,
)
from distill.spec.own_teacher import AskedTeacher
from distill.spec.own_work import OwnWork, with_own_work
from distill.spec.profile import Profile
from distill.spec.recipe import Recipe, Stage, checked
from distill.spec.teacher_mode import with_asked_mode


@dataclass(frozen=True, kw_only=True)
class RecipeChanges:
    """Values of the command line over the recipe's; `None` asks for nothing."""

    work: OwnWork = field(default_factory=OwnWork)
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
    label_smoothing: float | None = None
    layer_decay: float | None = None
    patch_drop_rate: float | None = None
    loss: SoftLoss | None = None
    mixup: float | None = None
    cutmix: float | None = None
    alpha: float | None = None
    temperature: float | None = None
    teacher: AskedTeacher | None = None
    teacher_mode: TeacherMode | None = None
    teacher_views: int | None = None


WHOLE = ("pretrained", "seed", "skip_unreadable")
TRAINING = (
    *("epochs", "learning_rate", "weight_decay", "warmup_epochs", "optimizer", "schedule"),
    *("step_epochs", "criterion", "patience", "balance", "label_smoothing", "layer_decay"),
    "patch_drop_rate",
)
AUGMENTATION = ("mixup", "cutmix")
LOSS = ("alpha", "temperature", "loss")
"""Where each value stands in a recipe."""


def changed_recipe(
    recipe: Recipe, changes: RecipeChanges, profile: Profile | None = None
) -> Recipe:
    """The recipe with the changes laid over it and over every stage's own values.

    Where each teacher is, a profile has chosen; the changes go before it. A folder of images is
    named by its whole path, so that the run knows it from anywhere.
    Raises `UserError` where the changed recipe is not possible.
    """
    training, loss = _asked(changes, TRAINING), _asked(changes, LOSS)
    whole = _asked(changes, WHOLE)
    recipe = with_own_work(with_own_teacher(recipe, changes.teacher), changes.work)
    recipe = with_asked_mode(recipe, profile, changes.teacher_mode, changes.teacher_views)
    changed = recipe.model_copy(
        update=whole
        | {
            "training": recipe.training.model_copy(update=training),
            "augmentation": recipe.augmentation.model_copy(update=_asked(changes, AUGMENTATION)),
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


def _asked(changes: RecipeChanges, names: Sequence[str]) -> dict[str, object]:
    """Those of the values that were asked for."""
    values = {name: getattr(changes, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
