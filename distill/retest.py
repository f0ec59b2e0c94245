"""The test of a finished run once more: each stage's best checkpoint on the same test images."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from distill.assemble import assemble
from distill.candidate import Candidate, StageName
from distill.checkpoint import load_weights
from distill.data.dataset import Dataset
from distill.data.load import load_dataset
from distill.evaluate import evaluate
from distill.metrics import Scores
from distill.models import build
from distill.request import pick_device
from distill.rescue import retried
from distill.review import FoundRun
from distill.runs import StageFolder, StageResult, stage_folder
from distill.step import Step


def retest(
    run: FoundRun, data_dir: Path, device_name: str
) -> list[tuple[StageResult, StageResult]]:
    """For each finished stage: the result as it was recorded, and as it is found now."""
    device = pick_device(device_name)
    recipe = run.recipe
    data = load_dataset(recipe.dataset, recipe.image_size, data_dir)
    pairs = []
    for then in run.results():
        folder = stage_folder(run.folder, recipe, then.stage)
        candidate = _candidate(run, then.stage, folder, device)
        student = build(candidate.student)
        load_weights(folder.checkpoints / then.checkpoint, student)
        step = assemble(candidate, student, None, device)
        test = partial(_scores, step, data)
        scores = retried(test, candidate.images_evaluated_at_once, device)
        now = replace(
            then,
            test_accuracy=scores.accuracy,
            test_precision=scores.precision,
            test_recall=scores.recall,
            test_f1_score=scores.f1_score,
            test_auc=scores.auc,
        )
        pairs.append((then, now))
    return pairs


def _scores(step: Step, data: Dataset, batch_size: int) -> Scores:
    return evaluate(step, data.test, batch_size=batch_size, classes=len(data.classes))


def _candidate(
    run: FoundRun, stage: StageName, folder: StageFolder, device: torch.device
) -> Candidate:
    """As it was trained; on a CPU in fp32 where that was on a GPU."""
    base = run.recipe.candidate(stage)
    trained = json.loads(folder.config.read_text(encoding="utf-8"))["candidate"]
    on_cpu = device.type == "cpu" and trained["implementation"] == "fused"
    return replace(
        base,
        micro_batch=trained["micro_batch"],
        evaluation_batch=trained["evaluation_batch"],
        precision="fp32" if on_cpu else trained["precision"],
        implementation="foreach",
    )
