"""The predicted history of the allocator: every event in order, and what is left at the end.

Pure. One form for whoever shows a prediction as PyTorch would record it: the snapshot for
PyTorch's memory viewer, and the recordings that `bench.evidence` imitates.
"""

from dataclasses import dataclass, field
from typing import Literal

from bench.simulate.allocator.blocks import AddressOf, Block, increasing_address
from bench.simulate.allocator.caching_allocator import CachingAllocator, SegmentAction
from bench.simulate.allocator.memory_stats import Statistics
from bench.simulate.program.program import Ints, Program
from distill.spec.candidate import Allocator

EventAction = Literal["alloc", "free_requested", "free_completed", SegmentAction]


@dataclass(frozen=True)
class AllocatorEvent:
    """What the allocator does: to the block of a birth, or to a segment because of that birth.

    `size_bytes` is what was requested, or the segment's own.
    """

    action: EventAction
    address: int
    size_bytes: int
    birth: int


@dataclass
class HeldSegment:
    """Memory of the card that the allocator holds, from its first address on."""

    address: int
    size_bytes: int
    is_small: bool


@dataclass
class AllocatorHistory:
    """All events, the totals, and the state at the end.

    `in_use` has the block of each birth that is alive at the end. `allocated_bytes` is the sum of
    all blocks that were given out.
    """

    events: list[AllocatorEvent] = field(default_factory=list)
    segments: dict[int, HeldSegment] = field(default_factory=dict)
    in_use: dict[int, Block] = field(default_factory=dict)
    free: list[Block] = field(default_factory=list)
    allocated_bytes: int = 0
    statistics: Statistics = field(default_factory=Statistics)


def allocator_history(
    program: Program,
    sizes: Ints,
    kind: Allocator,
    *,
    device_bytes: int | None = None,
    address_of: AddressOf = increasing_address,
) -> AllocatorHistory:
    """The history of a program without a cap, the allocator's own defaults as in `replay`.

    Without a cap nothing is given back to the driver: segments only grow.
    """
    allocator = CachingAllocator(kind, device_bytes=device_bytes, address_of=address_of)
    history = AllocatorHistory(statistics=allocator.statistics)
    frees, bounds = program.frees
    for birth, size in enumerate(sizes.tolist()):
        for dead in frees[bounds[birth] : bounds[birth + 1]]:
            block = history.in_use.pop(dead, None)
            if block is not None:
                for action in ("free_requested", "free_completed"):
                    event = AllocatorEvent(action, block.address, block.requested, dead)
                    history.events.append(event)
                allocator.free(block)
        if size:
            before = len(allocator.segment_events)
            block = history.in_use[birth] = allocator.malloc(size)
            for action, grown_bytes in allocator.segment_events[before:]:
                _grow(history, allocator, block, birth, action, grown_bytes)
            history.events.append(AllocatorEvent("alloc", block.address, size, birth))
            history.allocated_bytes += block.size
    pools = (allocator.small, allocator.large)
    history.free = [block for pool in pools for _, _, block in pool.free]
    return history


def _grow(
    history: AllocatorHistory,
    allocator: CachingAllocator,
    block: Block,
    birth: int,
    action: SegmentAction,
    grown_bytes: int,
) -> None:
    """Enter a new segment, which begins with its block, or further pages at an old one's end."""
    is_small = block.pool is allocator.small
    begin = block.pool.base if allocator.expandable else block.address
    segment = history.segments.setdefault(begin, HeldSegment(begin, 0, is_small))
    address = begin + segment.size_bytes
    segment.size_bytes += grown_bytes
    history.events.append(AllocatorEvent(action, address, grown_bytes, birth))
