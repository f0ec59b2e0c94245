"""The model that teaches a stage: which file it is in, whether it can teach, and it, built.

An earlier stage's best checkpoint, or a trained model of the user's own, which is held against the
data before hours are spent. Trains nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.base.console import say
from distill.base.digest import file_digest
from distill.base.errors import UserError
from distill.data.dataset import Dataset, Split
from distill.run.request import RunRequest
from distill.spec.own_teacher import TeacherFile
from distill.spec.recipe import Recipe, Stage
from distill.spec.stage_plan import StagePlan
from distill.step.assemble import assemble
from distill.step.memory import empty_allocator, pinned
from distill.step.models import build
from distill.train.archive import Unreadable
from distill.train.best_weights import best_digest, load_weights, read_weights
from distill.train.evaluate import evaluate
from distill.train.metrics import Scores
from distill.train.out_of_memory import retried
from distill.train.run_folder import read_result, stage_folder

NAMED_CLASSES = 4
"""How many classes a line names."""

ASKED_IMAGES = 256
"""Validation images that a teacher is asked about: enough to tell knowing from guessing."""

BLIND_AUC = 0.55
"""An area under the curve of 0.5 is guessing."""


def teacher_file(recipe: Recipe, run: Path, stage: Stage) -> Path | None:
    """The file of what teaches: the user's own, or an earlier stage's best, once it is finished."""
    own = recipe.own_teacher_of(stage.name)
    if own is not None:
        return own.weights
    if stage.taught_by is None:
        return None
    folder = stage_folder(run, recipe, stage.taught_by)
    result = read_result(folder)
    if result is None:
        raise UserError(
            f"Stage {stage.name} is taught by {stage.taught_by}, which is not finished in {run}. "
            f"Train it first: --stage {stage.taught_by}, or --stage all. Or bring a teacher: "
            "--teacher-weights FILE."
        )
    return folder.checkpoints / result.checkpoint


def built_teacher(request: RunRequest, plan: StagePlan, file: Path | None) -> nn.Module | None:
    """The teacher with its weights, on the CPU; `None` where nothing teaches."""
    candidate = plan.candidate
    if candidate.teacher is None or file is None:
        return None
    teacher = build(candidate.teacher)
    if request.recipe.own_teacher_of(candidate.stage) is None:
        load_weights(file, teacher)
    else:
        load_own_weights(file, teacher, candidate.teacher.title)
    return teacher


def teacher_digest(path: Path) -> str:
    """The hash of what teaches; a stage's best checkpoint's as it was saved."""
    return best_digest(path) if path.suffix == ".pth" else file_digest(path)


def load_own_weights(path: Path, model: nn.Module, name: str) -> None:
    """Put weights of the user's own into `model`, which they are said to be of.

    Raises `UserError` where they lack something, are of another shape, or hold what is no number.
    """
    try:
        state, _ = read_weights(path)
    except Unreadable as error:
        raise UserError(f"{path} is no whole safetensors file: {error.reason}.") from error
    wrong = _misfit(state, model.state_dict())
    if wrong is not None:
        raise UserError(
            f"Teacher {path} does not fit {name}: {wrong}. "
            "Name the model that it is with --teacher-model, or its shape in the recipe."
        )
    model.load_state_dict(state)


def _misfit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """The first thing in which weights are not those of a model, in words."""
    lacking = [name for name in wanted if name not in state]
    if lacking:
        return f"it lacks {len(lacking)} of the model's {len(wanted)} tensors, as {lacking[0]}"
    unknown = [name for name in state if name not in wanted]
    if unknown:
        return f"it holds {len(unknown)} tensors that the model does not have, as {unknown[0]}"
    for name, tensor in wanted.items():
        there, here = tuple(state[name].shape), tuple(tensor.shape)
        if there != here:
            why = ", as of a model for images of another size" if name == "pos_embed" else ""
            return f"its {name} is {there}{why}, the model's {here}"
        if not torch.isfinite(state[name]).all():
            return f"its {name} holds values that are not finite"
    return None


def check_own_teacher(request: RunRequest, plan: StagePlan) -> None:
    """Build a teacher of the user's own and read its weights, before anything is changed."""
    own = request.recipe.own_teacher_of(plan.candidate.stage)
    if own is not None:
        built_teacher(request, plan, own.weights)


def check_answers(request: RunRequest, plan: StagePlan, data: Dataset) -> None:
    """Hold a teacher of the user's own against the data: its classes' names, then its answers.

    It is asked about some validation images. A low score is told and not refused: it is the sign
    of classes in another order, another normalisation or other data. Raises `UserError` for
    classes of other names.
    """
    own = request.recipe.own_teacher_of(plan.candidate.stage)
    if own is None:
        return
    check_class_names(own, data.classes)
    teacher = built_teacher(request, plan, own.weights)
    assert teacher is not None
    places = np.linspace(0, len(data.val) - 1, min(len(data.val), ASKED_IMAGES)).astype(np.int64)
    some = data.val.take(places)
    with pinned(plan.pins, request.device):
        scores = _scores(plan, teacher, some, len(data.classes), request.device)
    del teacher
    empty_allocator(request.device)  # the stage is predicted from there
    say(f"  teacher  {own.title}: {told_scores(scores, some)}")


def told_scores(scores: Scores, asked: Split) -> str:
    """A teacher's scores in words, and whether it does better than one that looks at nothing."""
    if asked.labels.ndim == 2:
        knows_nothing = scores.auc is not None and scores.auc <= BLIND_AUC
        told = f"AUC {scores.auc or 0:.3f} on {len(asked)} validation images"
    else:
        knows_nothing = scores.accuracy <= np.bincount(asked.labels).max() / len(asked)
        told = f"{100 * scores.accuracy:.1f} % of {len(asked)} validation images right"
    if not knows_nothing:
        return told
    return (
        f"{told}, no better than one that looks at no image. Are its classes in the data's order, "
        "and its normalisation the model's own?"
    )


def _scores(
    plan: StagePlan, teacher: nn.Module, asked: Split, classes: int, device: torch.device
) -> Scores:
    assert plan.candidate.teacher is not None
    alone = replace(
        plan.candidate,
        student=plan.candidate.teacher,
        teacher=None,
        checkpointing=0,
        layer_decay=False,
    )
    step = assemble(alone, teacher, None, device)
    tally = retried(
        lambda batch: evaluate(step, asked, batch_size=batch),
        alone.images_evaluated_at_once,
        device,
    )
    return tally.scores(classes)


def check_class_names(own: TeacherFile, classes: tuple[str, ...]) -> None:
    """Refuse a teacher whose classes have other names, or come in another order; else tell them."""
    if own.classes is None:
        first = enumerate(classes[:NAMED_CLASSES])
        listed = ", ".join(f"{number} = {name}" for number, name in first)
        more = ", …" if len(classes) > NAMED_CLASSES else ""
        say(
            f"  teacher  {own.weights} does not name its classes; taken to be in the data's order: "
            f"{listed}{more}"
        )
        return
    pairs = enumerate(zip_longest(own.classes, classes))
    wrong = [(number, there, here) for number, (there, here) in pairs if there != here]
    if wrong:
        number, there, here = wrong[0]
        order = " in another order" if sorted(own.classes) == sorted(classes) else ""
        raise UserError(
            f"Teacher {own.weights} was trained on other classes{order}: its class {number} is "
            f"{there!r}, the data's is {here!r}. Give the data's classes the teacher's names."
        )
