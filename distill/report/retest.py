"""The test of a finished run once more: each stage's best checkpoint on the same test images."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from distill.base.errors import UserError
from distill.data.dataset import Dataset, content_of
from distill.data.load import load_dataset
from distill.report.found_run import FoundRun
from distill.report.stage_test import ask_stage, pick_device_for
from distill.run.claim import data_differences
from distill.spec.candidate import StageName
from distill.train.class_scores import ClassScores, class_scores
from distill.train.criterion import default_criterion
from distill.train.run_folder import StageResult, read_manifest


@dataclass(frozen=True, kw_only=True)
class Retested:
    """A stage's result as it was recorded and as it is found now, and that by class."""

    then: StageResult
    now: StageResult
    classes: ClassScores


def retest(
    run: FoundRun, data_dir: Path, device_name: str, stage: StageName | None = None
) -> list[Retested]:
    """The test of each finished stage, or of that one.

    Raises `UserError` when the data are not those that the run was trained with.
    """
    results = run.results(stage)
    device = pick_device_for(run, results[0].stage, device_name)
    data = same_data(run, data_dir)
    threads = read_manifest(run.folder).threads
    if threads is not None:  # they decide the order of sums
        torch.set_num_threads(threads)
    return [_retested(run, then, data, device) for then in results]


def same_data(run: FoundRun, data_dir: Path) -> Dataset:
    """The data that the run was trained with; `UserError` for any other."""
    recipe = run.recipe
    data = load_dataset(
        recipe.dataset,
        recipe.image_size,
        data_dir,
        skip_unreadable=recipe.skip_unreadable,
    )
    changed = data_differences(read_manifest(run.folder), content_of(data))
    if changed:
        raise UserError(
            f"{recipe.dataset} does not hold what {run.folder} was trained with "
            f"({'; '.join(changed)}). Name the place of the same data with --data-dir, or train "
            "again with distill run --fresh."
        )
    return data


def _retested(run: FoundRun, then: StageResult, data: Dataset, device: torch.device) -> Retested:
    """The stage's result with the scores that its best checkpoint gets now."""
    criterion = run.recipe.training_of(then.stage).criterion or default_criterion(data.task)
    tally = ask_stage(run, then, data.test, device, auc=criterion == "auc")
    scores = tally.scores(len(data.classes))
    now = replace(
        then,
        test_accuracy=scores.accuracy,
        test_precision=scores.precision,
        test_recall=scores.recall,
        test_f1_score=scores.f1_score,
        test_auc=scores.auc,
    )
    return Retested(then=then, now=now, classes=class_scores(tally, data.classes))
