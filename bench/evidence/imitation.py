"""An imitated history: what a card would record of a program if it did what is predicted.

Pure. Proves, without a GPU, that recordings are written, read, replayed and compared as they
should; being made from the model, it says nothing about a card.
"""

import numpy as np

from bench.evidence.recording import ACTIONS, STATISTICS, History, Recording
from bench.simulate.allocator.blocks import Block
from bench.simulate.allocator.caching_allocator import CachingAllocator
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
    allocator = CachingAllocator(pins.allocator, device_bytes=device_bytes)
    events, allocated = _events(program, sizes, allocator)
    counts = allocator.statistics
    totals = (
        counts.peak_requested,
        counts.peak_allocated,
        counts.peak_reserved,
        int(sizes.sum()),
        allocated,
        sum(size for _, size in allocator.segment_events),
        int(np.count_nonzero(sizes)),
        sum(action == "free_completed" for action, _, _ in events),
        counts.retries,
    )
    return Recording(
        source="imitated",
        candidate=candidate,
        pins=pins,
        marks=_marks(program, sizes),
        statistics=dict(zip(STATISTICS, totals, strict=True)),
        history=_history(events),
    )


def _events(
    program: Program, sizes: Ints, allocator: CachingAllocator
) -> tuple[list[tuple[str, int, int]], int]:
    """Action, address and size of all that the allocator does, and the bytes that it gave out."""
    events: list[tuple[str, int, int]] = []
    blocks: dict[int, Block] = {}
    allocated = 0
    for birth, size in enumerate(sizes.tolist()):
        for dead in program.freed_before[birth]:
            if dead in blocks:
                block = blocks.pop(dead)
                events.append(("free_requested", block.address, block.requested))
                events.append(("free_completed", block.address, block.requested))
                allocator.free(block)
        if size:
            before = len(allocator.segment_events)
            block = blocks[birth] = allocator.malloc(size)
            new = allocator.segment_events[before:]
            events += [(action, block.address, segment) for action, segment in new]
            events.append(("alloc", block.address, size))
            allocated += block.size
    return events, allocated


def _marks(program: Program, sizes: Ints) -> tuple[tuple[Phase, int], ...]:
    """Each span's phase, and how many allocations come before it."""
    counts = np.bincount(program.span_of[sizes > 0], minlength=len(program.spans))
    before = np.cumsum(counts) - counts
    return tuple(
        (span.phase, int(number)) for span, number in zip(program.spans, before, strict=True)
    )


def _history(events: list[tuple[str, int, int]]) -> History:
    ranks = {address: rank for rank, address in enumerate(sorted({e[1] for e in events}))}
    return History(
        actions=tuple(ACTIONS.index(action) for action, _, _ in events),
        addresses=tuple(ranks[address] for _, address, _ in events),
        sizes=tuple(size for _, _, size in events),
        streams=(0,) * len(events),
    )
