"""Predicting many cells, a family a process: the traces are what costs, the replays do not."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from bench.predict.predictor import Prediction, Predictor
from distill.candidate import Allocator, Candidate
from distill.profile import Target


@dataclass(frozen=True, kw_only=True)
class FamilyJob:
    """The cells of one family to predict, and the limit up to which to look for the largest."""

    cells: tuple[Candidate, ...]
    effective_batch: int
    target: Target
    allocator: Allocator
    limit_bytes: int


def predict_family(job: FamilyJob) -> list[Prediction]:
    """Every cell of the job, the largest batch that fits, and the first that does not."""
    predictor = Predictor(job.target, job.allocator)
    family = job.cells[-1]
    largest = predictor.largest_batch(family, job.effective_batch, job.limit_bytes)
    edge = [
        family.with_batch(batch, job.effective_batch)
        for batch in (largest, largest + 1)
        if batch > 0
    ]
    return [predictor.predict(cell) for cell in dict.fromkeys([*job.cells, *edge])]


def predict_families(jobs: Sequence[FamilyJob]) -> Iterator[list[Prediction]]:
    """Each job's predictions as they are done, on all cores."""
    workers = min(len(jobs), os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_leave_signals_alone) as pool:
        futures = [pool.submit(predict_family, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_signals_alone() -> None:
    """Ctrl-C reaches the whole process group; the parent decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
