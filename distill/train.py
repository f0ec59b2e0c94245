"""One stage: epochs of updates, a validation after each, and a checkpoint that loses nothing.

The one training loop. It stops between two updates when asked to, and goes on from there.
Out of memory is passed on as it is.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from distill.candidate import StageName
from distill.chain import StagePlan
from distill.checkpoint import (
    Identity,
    PartialEpoch,
    Position,
    load_latest,
    save_best,
    save_latest,
)
from distill.data.batches import Batch, training_batches, updates_per_epoch
from distill.data.dataset import Dataset
from distill.evaluate import evaluate
from distill.memory import read_peaks, reset_peaks, synchronize
from distill.metrics import score
from distill.optim import cosine_factor, set_learning_rate
from distill.progress import StageProgress
from distill.runs import EpochRow, StageFolder, write_log
from distill.signals import StopRequest
from distill.step import MicroResult, Step
from distill.units import MIB, bytes_text


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """All that one stage needs."""

    stage: StageName
    plan: StagePlan
    step: Step
    data: Dataset
    folder: StageFolder
    identity: Identity
    seed: int
    stop: StopRequest

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        return self.step.prepare.device

    @property
    def updates_per_epoch(self) -> int:
        """Updates that one pass over the training images takes."""
        return updates_per_epoch(len(self.data.train), self.plan.training.effective_batch)


def train_stage(job: StageJob) -> Position:
    """Train to the last epoch, from wherever `latest.pth` stands; returns where it ended.

    Raises `Interrupted` after saving when a signal asked to stop.
    """
    position = _load(job)
    started = position.partial.updates if position.partial else 0
    progress = StageProgress(
        job.stage,
        epochs=job.plan.training.epochs,
        updates_per_epoch=job.updates_per_epoch,
        done=position.epoch * job.updates_per_epoch + started,
    )
    try:
        if position.epoch or started:
            progress.say(f"goes on after epoch {position.epoch}, update {started}")
        while position.epoch < job.plan.training.epochs:
            partial = _train_epoch(job, position, progress)
            _finish_epoch(job, position, partial, progress)
    finally:
        progress.close()
    return position


def _train_epoch(job: StageJob, position: Position, progress: StageProgress) -> PartialEpoch:
    """The rest of the current epoch's updates."""
    partial = position.partial or PartialEpoch(0, 0.0, [], [], 0.0, None)
    position.partial = partial
    reset_peaks(job.device)
    for update, micro_batches in _updates(job, position.epoch, partial.updates):
        began = time.perf_counter()
        _set_update(job, position.epoch * job.updates_per_epoch + update)
        results = job.step.train(micro_batches)
        _gather(partial, micro_batches, results)
        seconds = time.perf_counter() - began
        partial.seconds += seconds
        images = sum(len(batch) for batch in micro_batches)
        progress.update(
            loss=partial.loss_sum / sum(len(part) for part in partial.labels),
            images_per_second=images / seconds,
            memory=_memory_text(job),
        )
        _stop_if_asked(job, position)
    return partial


def _finish_epoch(
    job: StageJob, position: Position, partial: PartialEpoch, progress: StageProgress
) -> None:
    """Validate, write down the epoch, keep the best, and make it all last."""
    began = time.perf_counter()
    classes = len(job.data.classes)
    labels = torch.cat(partial.labels)
    train = score(torch.cat(partial.predicted), labels, partial.loss_sum / len(labels), classes)
    batch_size = job.plan.candidate.images_evaluated_at_once
    val = evaluate(job.step, job.data.val, batch_size=batch_size, classes=classes)
    synchronize(job.device)
    peak_bytes = _epoch_peak(job, partial)
    row = EpochRow(
        epoch=position.epoch + 1,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        train_precision=train.precision,
        train_recall=train.recall,
        train_f1_score=train.f1_score,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        val_precision=val.precision,
        val_recall=val.recall,
        val_f1_score=val.f1_score,
        learning_rate=job.step.optimizer.param_groups[0]["lr"],
        epoch_time_sec=partial.seconds + time.perf_counter() - began,
        gpu_memory_mb=None if peak_bytes is None else peak_bytes / MIB,
        val_auc=val.auc,
    )
    best = position.best()
    if best is None or row.val_accuracy > best.val_accuracy:
        save_best(job.folder, row, job.step.student)
    position.rows.append(row)
    position.partial = None
    _save(job, position)
    write_log(job.folder.log, position.rows)
    progress.epoch(row)
    job.stop.raise_if_asked(f"Epoch {position.epoch} is saved; the same command goes on from it.")


def _updates(job: StageJob, epoch: int, done: int) -> Iterator[tuple[int, list[Batch]]]:
    """The epoch's updates that are still to do, with their place in it."""
    batches = training_batches(
        job.data.train,
        job.plan.candidate.input,
        seed=job.seed,
        epoch=epoch,
        micro_batch=job.plan.candidate.micro_batch,
        effective_batch=job.plan.training.effective_batch,
    )
    return islice(enumerate(batches), done, None)


def _set_update(job: StageJob, update: int) -> None:
    """The learning rate and the random state of an update: functions of its place alone."""
    training = job.plan.training
    factor = cosine_factor(
        update,
        warmup_updates=round(training.warmup_epochs * job.updates_per_epoch),
        total_updates=training.epochs * job.updates_per_epoch,
    )
    set_learning_rate(job.step.optimizer, training.learning_rate * factor)
    torch.manual_seed(job.seed * 1_000_003 + update)


def _gather(partial: PartialEpoch, micro_batches: list[Batch], results: list[MicroResult]) -> None:
    for batch, result in zip(micro_batches, results, strict=True):
        partial.loss_sum += float(result.loss) * len(batch)
        partial.predicted.append(result.predictions)
        partial.labels.append(batch.labels)
    partial.updates += 1


def _epoch_peak(job: StageJob, partial: PartialEpoch) -> int | None:
    """The epoch's peak of reserved bytes, that of its part before an interruption included."""
    peaks = read_peaks(job.device)
    if peaks is None:
        return None
    return max(peaks.reserved_bytes, partial.peak_reserved_bytes or 0)


def _stop_if_asked(job: StageJob, position: Position) -> None:
    if job.stop.number is None or position.partial is None:
        return
    position.partial.peak_reserved_bytes = _epoch_peak(job, position.partial)
    _save(job, position)
    job.stop.raise_if_asked(
        f"{job.stage} is saved at epoch {position.epoch + 1}, update {position.partial.updates}; "
        "the same command goes on from there."
    )


def _memory_text(job: StageJob) -> str:
    peaks = read_peaks(job.device)
    if peaks is None:
        return ""
    limit = f" of {bytes_text(job.plan.budget.limit_bytes)}" if job.plan.budget else ""
    return f", peak {bytes_text(peaks.reserved_bytes)}{limit}"


def _load(job: StageJob) -> Position:
    step = job.step
    return load_latest(job.folder, job.identity, step.student, step.optimizer, step.scaler)


def _save(job: StageJob, position: Position) -> None:
    step = job.step
    save_latest(job.folder, job.identity, position, step.student, step.optimizer, step.scaler)
