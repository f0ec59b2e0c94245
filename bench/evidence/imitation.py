"""An imitated history: what a card would record of a program if it did what is predicted.

Pure. Proves, without a GPU, that recordings are written, read, replayed and compared as they
should; being made from the model, it says nothing about a card.
"""

from collections.abc import Sequence

import numpy as np

from bench.evidence.recording import ACTIONS, STATISTICS, History, Recording
from bench.predict.allocator_history import AllocatorEvent, allocator_history
from bench.simulate.program.program import Ints, Program
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins
from distill.step.step import Phase


def imitate(
    program: Program,
    sizes: Ints,
    candidate: Candidate,
    pins: Pins,
    *,
    device_bytes: int | None = None,
) -> Recording:
    """The recording that a card of `device_bytes` would give if it did what is predicted."""
    told = allocator_history(program, sizes, pins.allocator, device_bytes=device_bytes)
    counts = told.statistics
    totals = (
        counts.peak_requested,
        counts.peak_allocated,
        counts.peak_reserved,
        int(sizes.sum()),
        told.allocated_bytes,
        sum(segment.size_bytes for segment in told.segments.values()),
        int(np.count_nonzero(sizes)),
        sum(event.action == "free_completed" for event in told.events),
        counts.retries,
    )
    return Recording(
        source="imitated",
        candidate=candidate,
        pins=pins,
        marks=_marks(program, sizes),
        statistics=dict(zip(STATISTICS, totals, strict=True)),
        history=_history(told.events),
    )


def _marks(program: Program, sizes: Ints) -> tuple[tuple[Phase, int], ...]:
    """Each span's phase, and how many allocations come before it."""
    counts = np.bincount(program.span_of[sizes > 0], minlength=len(program.spans))
    before = np.cumsum(counts) - counts
    return tuple(
        (span.phase, int(number)) for span, number in zip(program.spans, before, strict=True)
    )


def _history(events: Sequence[AllocatorEvent]) -> History:
    ranks = {address: rank for rank, address in enumerate(sorted({e.address for e in events}))}
    return History(
        actions=tuple(ACTIONS.index(event.action) for event in events),
        addresses=tuple(ranks[event.address] for event in events),
        sizes=tuple(event.size_bytes for event in events),
        streams=(0,) * len(events),
    )
