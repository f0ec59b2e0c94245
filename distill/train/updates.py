"""The updates of an epoch as they come: their images, their learning rate, their random state."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from distill.data.batches import Batch, images_learnt_from, training_batches
from distill.step.optim import learning_rate_at, set_learning_rate
from distill.train.checkpoint import PartialEpoch, Position
from distill.train.stage_job import StageJob


@dataclass(frozen=True, kw_only=True)
class Update:
    """One update: its 0-based place in the epoch, and this process's micro-batches of it.

    All processes together learn from `images`. Where one `counts`, its results are told.
    """

    place: int
    micro_batches: list[Batch]
    images: int
    counts: bool


def updates_left(job: StageJob, position: Position, partial: PartialEpoch) -> Iterator[Update]:
    """The epoch's updates that are still to do; how long each is waited for is its input's time."""
    began = time.perf_counter()
    for update in _updates(job, position, partial.updates):
        if partial.input_seconds is not None:
            partial.input_seconds += time.perf_counter() - began
        yield update
        began = time.perf_counter()


def set_update(job: StageJob, number: int) -> None:
    """The learning rate and the random state of an update: functions of its place alone.

    Processes that train together draw differently: their images are others.
    """
    rate = learning_rate_at(number, job.plan.training, job.updates_per_epoch)
    set_learning_rate(job.step.optimizer, rate)
    torch.manual_seed((job.seed * 1_000_003 + number + (job.ranks.rank << 40)) % 2**63)


def _updates(job: StageJob, position: Position, done: int) -> Iterator[Update]:
    planned, share = job.plan.candidate.micro_batch, job.ranks.share
    micro_batch = max(job.fewest, position.micro_batch(planned))
    together = job.plan.training.effective_batch
    batches = training_batches(
        job.data.train,
        job.plan.candidate.input,
        seed=job.seed,
        epoch=position.epoch,
        micro_batch=micro_batch,
        effective_batch=together,
        balanced=job.plan.training.balance == "sampling",
        fewest=job.fewest,
        pin=job.device.type == "cuda",
        taught=job.taught,
        share=share,
    )
    for place, micro_batches in islice(enumerate(batches), done, None):
        images = min(together, len(job.data.train) - place * together)
        yield Update(
            place=place,
            micro_batches=micro_batches,
            images=images_learnt_from(images, micro_batch, job.fewest, share),
            counts=share.counts(images, job.fewest),
        )
