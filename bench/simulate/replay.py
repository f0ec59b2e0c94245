"""Replay of a program through the allocator: its peaks, and the owner of each byte at the peak.

Pure. One pass; the timeline is kept only when it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.simulate.allocator.blocks import AddressOf, Block, increasing_address
from bench.simulate.allocator.caching_allocator import CachingAllocator, SegmentAction
from bench.simulate.allocator.memory_stats import Statistics
from bench.simulate.prediction import Allocation
from bench.simulate.program.program import NEVER, Ints, Program
from distill.spec.candidate import Allocator
from distill.spec.file_values import OWNERS, Owner


@dataclass(frozen=True)
class PeakState:
    """The state just after a birth: requested bytes by owner, and the births that are alive."""

    birth: int
    owned: dict[Owner, int]
    alive: tuple[int, ...]
    sizes: Ints


@dataclass(frozen=True)
class Timeline:
    """One entry a birth: requested bytes by owner (births, owners), allocated and reserved."""

    owned: Ints
    allocated: Ints
    reserved: Ints


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Peaks in bytes; `peak` is the state when most is allocated.

    `reserved` is at its own peak. `cap_needed` is the smallest cap that lets all this happen.
    """

    requested: int
    allocated: int
    reserved: int
    cap_needed: int
    retries: int
    peak: PeakState
    segment_events: tuple[tuple[SegmentAction, int], ...]
    timeline: Timeline | None = None

    @property
    def slack(self) -> int:
        """Reserved bytes that nobody asked for: rounding, unsplit rests, free blocks."""
        return self.reserved - sum(self.peak.owned.values())


@dataclass
class _TimelineRecorder:
    """Fills a timeline as the replay goes."""

    owned: list[list[int]] = field(default_factory=list)
    allocated: list[int] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)

    def add(self, owned: Sequence[int], counts: Statistics) -> None:
        self.owned.append(list(owned))
        self.allocated.append(counts.allocated)
        self.reserved.append(counts.reserved)

    def timeline(self) -> Timeline:
        return Timeline(np.array(self.owned), np.array(self.allocated), np.array(self.reserved))


class _RepeatedStretches:
    """Stretches of a program that may be passed over, and the allocator's layout as each began."""

    def __init__(self, repeats: Mapping[int, tuple[int, int]]) -> None:
        self.repeats = repeats
        self.begin = {*repeats, *(before for before, _ in repeats.values())}
        self._layouts: dict[int, tuple[object, ...]] = {}

    def is_known(self, begin: int, layout: tuple[object, ...]) -> bool:
        """True if this begins as the stretch before it did, which so changed nothing."""
        self._layouts[begin] = layout
        return begin in self.repeats and self._layouts[self.repeats[begin][0]] == layout


def replay(
    program: Program,
    sizes: Ints,
    kind: Allocator,
    *,
    cap_bytes: int | None = None,
    device_bytes: int | None = None,
    address_of: AddressOf = increasing_address,
    timeline: bool = False,
) -> Replay:
    """Replay all births and frees. Raises `OutOfMemory` when `cap_bytes` leaves no room.

    Frees between two births happen in the order of birth. A stretch that repeats the one before
    it and finds free what that one found does the same again: it is passed over.
    """
    allocator = CachingAllocator(
        kind, cap_bytes=cap_bytes, device_bytes=device_bytes, address_of=address_of
    )
    recorder = _TimelineRecorder() if timeline else None
    peak = _play(program, sizes, allocator, recorder)
    counts = allocator.statistics
    return Replay(
        requested=counts.peak_requested,
        allocated=counts.peak_allocated,
        reserved=counts.peak_reserved,
        cap_needed=counts.cap_needed,
        retries=counts.retries,
        peak=peak,
        segment_events=tuple(allocator.segment_events),
        timeline=None if recorder is None else recorder.timeline(),
    )


def _play(
    program: Program,
    sizes: Ints,
    allocator: CachingAllocator,
    recorder: _TimelineRecorder | None,
) -> PeakState:
    """Hand every birth and free to `allocator`; the state when most was allocated.

    Runs for every birth of every batch size that is asked about: all in locals, no calls but
    the allocator's.
    """
    counts, owners = allocator.statistics, program.owner_of.tolist()
    (frees, bounds), asked = program.frees, sizes.tolist()
    blocks: list[Block | None] = [None] * len(program)
    # A timeline has an entry for every birth, so nothing may be passed over.
    stretches = _RepeatedStretches({} if recorder is not None else program.repeats)
    owned = [0] * len(OWNERS)
    at_peak, peak_birth, highest, birth = list(owned), 0, 0, 0
    while birth < len(asked):
        for dead in frees[bounds[birth] : bounds[birth + 1]]:
            block = blocks[dead]
            if block is not None:
                owned[owners[dead]] -= block.requested
                allocator.free(block)
        # After the frees: what the stretch before left to free is part of the layout.
        if birth in stretches.begin and stretches.is_known(birth, allocator.layout()):
            birth = stretches.repeats[birth][1]
            continue
        size = asked[birth]
        if size:
            blocks[birth] = allocator.malloc(size)
            owned[owners[birth]] += size
            if counts.peak_allocated > highest:
                highest, peak_birth, at_peak = counts.peak_allocated, birth, list(owned)
        if recorder is not None:
            recorder.add(owned, counts)
        birth += 1
    owned_at_peak = dict(zip(OWNERS, at_peak, strict=True))
    return PeakState(peak_birth, owned_at_peak, _alive(program, peak_birth), sizes)


def _alive(program: Program, birth: int) -> tuple[int, ...]:
    """The births that are alive just after `birth`."""
    death = program.death[: birth + 1]
    return tuple(int(i) for i in np.flatnonzero((death == NEVER) | (death > birth)))


def largest_storages(program: Program, peak: PeakState) -> tuple[Allocation, ...]:
    """The three largest storages alive at the peak."""
    biggest = sorted(peak.alive, key=lambda birth: -peak.sizes[birth])[:3]
    return tuple(
        Allocation(
            size_bytes=int(peak.sizes[birth]),
            owner=OWNERS[program.owner_of[birth]],
            op=str(program.op[birth]),
            module=str(program.module[birth]),
        )
        for birth in biggest
    )
