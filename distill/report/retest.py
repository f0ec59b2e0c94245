"""The test of a finished run once more: each stage's best checkpoint on the same test images."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from distill.base.errors import UserError
from distill.data.dataset import Dataset, content_of
from distill.data.load import load_dataset
from distill.report.found_run import FoundRun, stage_config
from distill.run.claim import data_differences
from distill.run.request import pick_device
from distill.spec.candidate import Candidate, StageName
from distill.spec.pins import Pins, set_environment, workspace_config
from distill.step.assemble import assemble
from distill.step.memory import pinned
from distill.step.models import build
from distill.step.step import Step
from distill.train.best_weights import load_weights
from distill.train.evaluate import evaluate
from distill.train.metrics import Scores
from distill.train.out_of_memory import retried
from distill.train.run_folder import StageResult, read_manifest, stage_folder


def retest(
    run: FoundRun, data_dir: Path, device_name: str
) -> list[tuple[StageResult, StageResult]]:
    """Pairs for each finished stage: the result as it was recorded, and as it is found now.

    Raises `UserError` when the data are not those that the run was trained with.
    """
    results = run.results()
    pins = {result.stage: _pins(run, result.stage) for result in results}
    _set_environment(pins[results[0].stage])  # before `pick_device`, the first to ask for CUDA
    device = pick_device(device_name)
    data = _same_data(run, data_dir)
    return [(then, _retested(run, then, data, pins[then.stage], device)) for then in results]


def _set_environment(pins: Pins | None) -> None:
    if pins is not None:
        deterministic = pins.cublas_workspace_config == workspace_config(deterministic=True)
        set_environment(allocator=pins.allocator, deterministic=deterministic)


def _same_data(run: FoundRun, data_dir: Path) -> Dataset:
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


def _retested(
    run: FoundRun, then: StageResult, data: Dataset, pins: Pins | None, device: torch.device
) -> StageResult:
    """The stage's result with the scores that its best checkpoint gets now."""
    candidate = _candidate(run, then.stage, device)
    student = build(candidate.student)
    folder = stage_folder(run.folder, run.recipe, then.stage)
    load_weights(folder.checkpoints / then.checkpoint, student)
    step = assemble(candidate, student, None, device)
    test = partial(_scores, step, data)
    with pinned(pins, device):
        scores = retried(test, candidate.images_evaluated_at_once, device)
    return replace(
        then,
        test_accuracy=scores.accuracy,
        test_precision=scores.precision,
        test_recall=scores.recall,
        test_f1_score=scores.f1_score,
        test_auc=scores.auc,
    )


def _scores(step: Step, data: Dataset, batch_size: int) -> Scores:
    return evaluate(step, data.test, batch_size=batch_size).scores(len(data.classes))


def _pins(run: FoundRun, stage: StageName) -> Pins | None:
    """The pins that the stage was trained under; none on a CPU."""
    return stage_config(run, stage).pins


def _candidate(run: FoundRun, stage: StageName, device: torch.device) -> Candidate:
    """The candidate as it was trained; on a CPU in fp32 where that was on a GPU."""
    base = run.recipe.candidate(stage)
    trained = stage_config(run, stage).candidate
    on_cpu = device.type == "cpu" and trained.implementation == "fused"
    return replace(
        base,
        micro_batch=trained.micro_batch,
        evaluation_batch=trained.evaluation_batch,
        precision="fp32" if on_cpu else trained.precision,
        implementation="foreach",
    )
