"""Predictions of many cells, a process for each family.

A family is all cells that differ in nothing but the batch. They share its traces, which take most
of the time.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.simulate.largest_batch import worth_asking
from bench.simulate.prediction import Prediction, Unavailable
from bench.simulate.predictor import Predictor
from distill.base.errors import UserError
from distill.base.worker_pool import map_in_processes
from distill.device.cores import available_cores
from distill.device.visible_devices import hide_devices
from distill.spec.bounds import MOST_IMAGES
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Target

Job = TypeVar("Job")
Answer = TypeVar("Answer")

FEW_TRACES = 4
"""Up to so many traces, further processes cost more than they bring."""

YOUNG_OBJECTS = 50_000
"""Objects between two garbage collections of a worker: a replay makes tens of thousands of blocks,
and collecting after each 700 took about a fifth of the time of the grid."""

TOO_SLOW = 2.0
"""A cell so many times slower than the fastest of its family is not chosen, so how many images it
may evaluate at a time is not looked for."""


@dataclass(frozen=True, kw_only=True)
class FamilyJob:
    """The cells of one family to predict, and the limit up to which to look for the largest."""

    cells: tuple[Candidate, ...]
    effective_batch: int
    target: Target
    allocator: Allocator
    limit_bytes: int


def predict_family(job: FamilyJob) -> list[Prediction | Unavailable]:
    """Every cell of the job, the largest batch that fits, and the first that does not.

    The cell of one image only where it matters (`worth_asking`). Where a cell, or the whole family,
    can't be traced, the reason is given instead.
    """
    predictor = Predictor(job.target, job.allocator)
    family = job.cells[-1]
    try:
        largest = predictor.largest_batch(
            family, job.limit_bytes, effective_batch=job.effective_batch
        )
    except UserError as error:
        return [Unavailable(cell, str(error)) for cell in job.cells]
    edge = [
        family.with_batch(batch, job.effective_batch)
        for batch in (largest, largest + 1)
        if 0 < batch <= MOST_IMAGES
    ]
    cells = worth_asking(job.cells, largest, job.effective_batch)
    answers = [_answer(predictor, cell) for cell in dict.fromkeys([*cells, *edge])]
    fastest = max((_chosen_for(answer, job) for answer in answers), default=0.0)
    return [
        _with_evaluation(predictor, answer)
        if isinstance(answer, Prediction) and _chosen_for(answer, job) * TOO_SLOW > fastest
        else answer
        for answer in answers
    ]


def _answer(predictor: Predictor, cell: Candidate) -> Prediction | Unavailable:
    try:
        return predictor.predict(cell)
    except UserError as error:
        return Unavailable(cell, str(error))


def _chosen_for(answer: Prediction | Unavailable, job: FamilyJob) -> float:
    """Images a second, for which a cell may be chosen; 0 for one that can't be."""
    if isinstance(answer, Unavailable) or answer.safe_bytes > job.limit_bytes:
        return 0.0
    divides = job.effective_batch % answer.candidate.micro_batch == 0
    return answer.expected_images_per_second if divides else 0.0


def _with_evaluation(predictor: Predictor, prediction: Prediction) -> Prediction:
    """The prediction with the batch that it may evaluate at, and its time so."""
    cell, timing = prediction.candidate, prediction.timing
    batch = predictor.evaluation_batch(cell)
    if batch != cell.images_evaluated_at_once:
        timing = predictor.predict(replace(cell, evaluation_batch=batch)).timing
    return replace(prediction, largest_evaluation_batch=batch, timing=timing)


def predict_cells(job: FamilyJob) -> list[Prediction]:
    """The cells of the job and nothing else."""
    predictor = Predictor(job.target, job.allocator)
    predictor.fit_family(job.cells[-1])
    return [predictor.predict(cell) for cell in job.cells]


def predict_families(
    jobs: Sequence[FamilyJob], work: Callable[[FamilyJob], list[Answer]]
) -> Iterator[list[Answer]]:
    """Each job's predictions as they are done, on all cores.

    The last job begins first: small students fit large batches, whose limit takes longest to find.
    Raises `Interrupted` when one of the processes was asked to stop.
    """
    found = map_in_processes(
        work,
        list(reversed(jobs)),
        processes=available_cores(),
        prepare=begin_worker,
        kept="What was predicted is kept; the same command goes on.",
    )
    for _, predictions in found:
        yield predictions


def map_traces(work: Callable[[Job], Answer], jobs: Sequence[Job], *, kept: str) -> list[Answer]:
    """`work`, which traces, on each job: on all cores if they are many. In the order of the jobs.

    Raises `Interrupted` when one of the processes was asked to stop; `kept` says what is safe.
    """
    if len(jobs) <= FEW_TRACES:
        return [work(job) for job in jobs]
    found = map_in_processes(
        work, jobs, processes=available_cores(), prepare=begin_worker, kept=kept
    )
    return [answer for _, answer in sorted(found, key=lambda one: one[0])]


def begin_worker() -> None:
    """Prepare a worker: no GPU in sight, a small garbage collection."""
    # Before anything touches torch.cuda: it reads the environment once, and a context would take
    # memory from the card that is being planned for.
    hide_devices()
    gc.freeze()  # torch's objects stay to the end: no collection has to walk through them
    gc.set_threshold(YOUNG_OBJECTS)
