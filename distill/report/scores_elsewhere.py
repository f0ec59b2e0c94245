"""The scores of a finished run's stages on other images than its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.base.console import say
from distill.base.errors import UserError
from distill.data.scored import ScoredImages, load_scored
from distill.report.found_run import FoundRun, stage_config
from distill.report.stage_test import ask_stage, pick_device_for
from distill.report.tables import ACCURACY_TITLE, Row, accuracy_text, as_text
from distill.spec.candidate import Candidate, StageName
from distill.spec.image_files import count_of
from distill.spec.image_source import image_layout, is_own
from distill.spec.image_test import images_to_score
from distill.spec.own_teacher import class_names
from distill.train.best_weights import weights_beside
from distill.train.class_scores import ClassScores, class_scores
from distill.train.metrics import Scores
from distill.train.run_folder import StageResult, stage_folder


@dataclass(frozen=True, kw_only=True)
class ScoredStage:
    """One stage's scores on the images, whole and by class."""

    result: StageResult
    scores: Scores
    classes: ClassScores


def score_elsewhere(
    run: FoundRun,
    name: str,
    data_dir: Path,
    device_name: str,
    *,
    stage: StageName | None = None,
    skip_unreadable: bool = False,
) -> list[ScoredStage]:
    """Ask each finished stage, or that one, about the images of the data set `name`.

    The run's own images are not needed. Raises `UserError` for images of classes that the run
    does not know, and for a run whose images have several labels each.
    """
    results = run.results(stage)
    device = pick_device_for(run, results[0].stage, device_name)
    names = _class_names(run, results[0])
    trained = _trained(run, results[0])
    data = load_scored(
        name,
        names,
        channels=trained.student.channels,
        image_size=trained.input.source_size,
        data_dir=data_dir,
        skip_unreadable=skip_unreadable,
    )
    _tell(name, data)
    if known := _images_of_its_training(run, name):
        say(
            f"  data  warning: {count_of(known, 'image')} of these are among those that "
            f"{run.folder} was trained from: it may know them. Its own test: leave out --dataset."
        )
    found = []
    for result in results:
        tally = ask_stage(run, result, data.images, device, auc=False)
        classes = class_scores(tally, names)
        found.append(ScoredStage(result=result, scores=tally.scores(len(names)), classes=classes))
    return found


def _trained(run: FoundRun, result: StageResult) -> Candidate:
    """The candidate of a stage; `UserError` where its images have several labels each."""
    trained = stage_config(run, result.stage).candidate
    if trained.input.multi_label:
        raise UserError(
            f"The images of {run.folder} have several labels each, and a folder or a list gives "
            "one. Leave out --dataset to repeat its own test."
        )
    return trained


def _tell(name: str, data: ScoredImages) -> None:
    say(f"  data  {name}: {count_of(len(data.images), 'image')}; {data.notes[0]}")
    for note in data.notes[1:]:
        say(f"  data  {note}")
    for reason in data.unreadable:
        say(f"  data  left out: {reason}")


def _images_of_its_training(run: FoundRun, name: str) -> int:
    """How many of the files are of those that the run was trained from, its test part aside.

    Of data without parts all are: which were held out depends on the seed.
    """
    if not (is_own(name) and is_own(run.recipe.dataset)):
        return 0
    try:
        parts = image_layout(run.recipe.dataset).parts
    except UserError:  # moved away since, or changed
        return 0
    scored = images_to_score(name).by_class.values()
    files = {path.resolve() for paths in scored for path in paths}
    used = [by_class.values() for part, by_class in parts.items() if part != "test"]
    return sum(path.resolve() in files for values in used for paths in values for path in paths)


def elsewhere_text(found: Sequence[ScoredStage]) -> str:
    """One row a stage: its scores on the images."""
    return as_text([_row(one) for one in found])


def _row(one: ScoredStage) -> Row:
    scores = one.scores
    return {
        "stage": one.result.stage,
        "checkpoint": one.result.checkpoint,
        "images": f"{one.classes.images:,}",
        ACCURACY_TITLE: accuracy_text(scores.accuracy, one.classes.images),
        "precision %": f"{100 * scores.precision:.2f}",
        "recall %": f"{100 * scores.recall:.2f}",
        "F1 %": f"{100 * scores.f1_score:.2f}",
        "AUC": "–" if scores.auc is None else f"{scores.auc:.4f}",
    }


def _class_names(run: FoundRun, result: StageResult) -> tuple[str, ...]:
    """The names of the classes, as they lie with the stage's best weights."""
    folder = stage_folder(run.folder, run.recipe, result.stage)
    weights = weights_beside(folder.checkpoints / result.checkpoint)
    names = class_names(weights) if weights.is_file() else None
    if not names:
        raise UserError(
            f"{weights} does not name the classes of {run.folder}, so that no other images can be "
            "scored. Leave out --dataset to repeat its own test."
        )
    return names
