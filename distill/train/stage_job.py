"""What the training of one stage is given: its parts and values, and its test on a split.

A value that is handed on; it trains nothing (`loop`).
"""

from dataclasses import dataclass

import numpy as np
import torch

from distill.base.signals import StopRequest
from distill.data.batches import TeacherLogits, updates_per_epoch
from distill.data.dataset import Dataset, Split
from distill.spec.candidate import Criterion, StageName
from distill.spec.stage_plan import StagePlan
from distill.step.compiled import CompileWatch
from distill.step.step import Step
from distill.train.checkpoint import Identity
from distill.train.evaluate import answers, together
from distill.train.events import EventLog
from distill.train.metrics import Tally
from distill.train.out_of_memory import OutOfMemoryHandler, retried
from distill.train.ranks import ALONE, Ranks, evaluation_range
from distill.train.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """The parts and values that the training of one stage needs.

    `fewest` is the smallest micro-batch that the model learns from. `taught` are the logits of a
    teacher that is not there any more.
    """

    stage: StageName
    plan: StagePlan
    step: Step
    data: Dataset
    folder: StageFolder
    identity: Identity
    seed: int
    stop: StopRequest
    events: EventLog
    handler: OutOfMemoryHandler
    criterion: Criterion = "accuracy"
    fewest: int = 1
    taught: TeacherLogits | None = None
    later_updates: int = 0
    memory_log: bool = False
    empty_cache_every: int | None = None
    compile_watch: CompileWatch | None = None
    ranks: Ranks = ALONE

    @property
    def device(self) -> torch.device:
        """The device that the step runs on."""
        return self.step.prepare.device

    @property
    def updates_per_epoch(self) -> int:
        """Updates that one pass over the training images takes."""
        images, together = len(self.data.train), self.plan.training.effective_batch
        return updates_per_epoch(images, together, self.fewest)


class StopEvaluating(Exception):
    """Asked to stop between two batches of an evaluation."""


def evaluate_split(job: StageJob, data: Split) -> Tally:
    """The answers to `data`, in smaller batches when memory ends, and stopping when asked to.

    Processes that train together share the batches out; each has all the answers then.
    """
    auc, at_once = job.criterion == "auc", job.plan.candidate.images_evaluated_at_once
    own = evaluation_range(len(data), at_once, job.ranks)
    part = data if len(own) == len(data) else data.take(np.arange(own.start, own.stop))

    def attempt(batch_size: int) -> list[Tally]:
        return answers(
            job.step,
            part,
            batch_size=batch_size,
            auc=auc,
            between=lambda: _stop_evaluating(job),
        )

    parts = job.ranks.all_gather(retried(attempt, at_once, job.device))
    if job.ranks.world_size > 1 and job.ranks.stop_asked(job.stop):
        raise StopEvaluating(job.stage)
    return together([tally for part in parts for tally in part], auc=auc)


def _stop_evaluating(job: StageJob) -> None:
    if job.ranks.world_size == 1 and job.stop.number is not None:  # else when all have their part
        raise StopEvaluating(job.stage)
