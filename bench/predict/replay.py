"""A program through the allocator: the peaks, when they are reached, and who owns what then.

Pure. One pass; what is kept for each event is only what the caller asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.predict.allocator import Block, CachingAllocator, SegmentAction
from bench.predict.trace import NEVER, OWNERS, Ints, Owner, Program
from distill.candidate import Allocator


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Peaks in bytes, and who owns what when most is allocated.

    `owned` says whose the requested bytes are at that moment, which `peak_birth` made; what is
    reserved at its own peak beyond them is slack. `cap_needed` is the smallest cap that lets all
    this happen.
    """

    requested: int
    allocated: int
    reserved: int
    cap_needed: int
    retries: int
    owned: dict[Owner, int]
    peak_birth: int
    segment_events: tuple[tuple[SegmentAction, int], ...]

    @property
    def slack(self) -> int:
        """Reserved bytes that nobody asked for: rounding, unsplit rests, free blocks."""
        return self.reserved - sum(self.owned.values())


def replay(
    program: Program,
    sizes: Ints,
    kind: Allocator,
    *,
    cap_bytes: int | None = None,
    address_of: Callable[[int], int] | None = None,
) -> Replay:
    """Replay all births and frees. Raises `OutOfMemory` when `cap_bytes` leaves no room.

    Frees between two births happen in the order of birth.
    """
    extra = {} if address_of is None else {"address_of": address_of}
    allocator = CachingAllocator(kind, cap_bytes=cap_bytes, **extra)
    counts = allocator.statistics
    freed_before = _frees(program)
    owners = program.owner_of.tolist()
    owned = [0] * len(OWNERS)
    at_peak, peak_birth, highest = list(owned), 0, 0
    blocks: list[Block | None] = [None] * len(program)
    for birth, size in enumerate(sizes.tolist()):
        for dead in freed_before[birth]:
            block = blocks[dead]
            if block is not None:
                owned[owners[dead]] -= block.requested
                allocator.free(block)
        if not size:
            continue
        blocks[birth] = allocator.malloc(size)
        owned[owners[birth]] += size
        if counts.peak_allocated > highest:
            highest, peak_birth, at_peak = counts.peak_allocated, birth, list(owned)
    return Replay(
        requested=counts.peak_requested,
        allocated=counts.peak_allocated,
        reserved=counts.peak_reserved,
        cap_needed=counts.cap_needed,
        retries=counts.retries,
        owned=dict(zip(OWNERS, at_peak, strict=True)),
        peak_birth=peak_birth,
        segment_events=tuple(allocator.segment_events),
    )


def _frees(program: Program) -> Sequence[Sequence[int]]:
    """For each birth, which earlier ones are freed just before it."""
    freed: list[list[int]] = [[] for _ in range(len(program) + 1)]
    for birth, death in enumerate(program.death.tolist()):
        if death != NEVER:
            freed[death].append(birth)
    return freed
