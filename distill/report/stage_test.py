"""One finished stage's best checkpoint, asked about images: the answers, as when it was trained."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from distill.data.dataset import Split
from distill.report.found_run import FoundRun, stage_config
from distill.run.request import pick_device
from distill.spec.candidate import Candidate, StageName
from distill.spec.pins import Pins, set_environment, workspace_config
from distill.step.assemble import assemble
from distill.step.memory import pinned
from distill.step.models import build
from distill.step.step import Step
from distill.train.best_weights import load_weights, recorded_classes
from distill.train.evaluate import evaluate
from distill.train.metrics import Tally
from distill.train.out_of_memory import retried
from distill.train.run_folder import StageResult, stage_folder


def pick_device_for(run: FoundRun, stage: StageName, name: str) -> torch.device:
    """The device by its name, in the environment that the stage was trained in.

    Comes before anything else that asks for CUDA.
    """
    pins = _pins(run, stage)
    if pins is not None:
        deterministic = pins.cublas_workspace_config == workspace_config(deterministic=True)
        set_environment(allocator=pins.allocator, deterministic=deterministic)
    return pick_device(name)


def ask_stage(
    run: FoundRun, result: StageResult, images: Split, device: torch.device, *, auc: bool
) -> Tally:
    """The answers of the stage's best checkpoint to all the images."""
    candidate = _candidate(run, result.stage, device)
    student = build(candidate.student)
    folder = stage_folder(run.folder, run.recipe, result.stage)
    load_weights(folder.checkpoints / result.checkpoint, student)
    step = assemble(candidate, student, None, device)
    ask = partial(_answers, step, images, auc=auc)
    with pinned(_pins(run, result.stage), device):
        return retried(ask, candidate.images_evaluated_at_once, device)


def known_names(checkpoint: Path, classes: int) -> tuple[str, ...]:
    """The names of the classes that went with a best checkpoint, or their numbers."""
    return recorded_classes(checkpoint) or tuple(f"class {number}" for number in range(classes))


def _answers(step: Step, images: Split, batch_size: int, *, auc: bool) -> Tally:
    return evaluate(step, images, batch_size=batch_size, auc=auc)


def _pins(run: FoundRun, stage: StageName) -> Pins | None:
    """The pins that the stage was trained under; none on a CPU."""
    return stage_config(run, stage).pins


def _candidate(run: FoundRun, stage: StageName, device: torch.device) -> Candidate:
    """The candidate as it was trained, alone; on a CPU in fp32 where that was on a GPU."""
    trained = stage_config(run, stage)
    moved = device.type == "cpu" and trained.pins is not None  # there are pins on a GPU alone
    precision = "fp32" if moved else trained.candidate.precision
    return replace(trained.candidate, teacher=None, precision=precision)
