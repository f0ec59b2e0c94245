"""The model of the allocator against a recording: the same requests, the same segments and totals.

Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.evidence.recording import ACTIONS, STATISTICS, History, Recording
from bench.simulate.allocator.blocks import Block
from bench.simulate.allocator.caching_allocator import CachingAllocator
from bench.simulate.torch_rules import TorchRules


@dataclass(frozen=True)
class Mismatch:
    """One thing that the model does otherwise than the recorded allocator."""

    what: str
    recorded: object
    modelled: object

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, modelled {self.modelled}"


@dataclass
class _Rerun:
    """The recorded requests and frees, made again of the model."""

    history: History
    allocator: CachingAllocator
    blocks: dict[int, Block] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)
    requested: int = 0
    allocated: int = 0
    count: int = 0
    freed: int = 0

    def alloc(self, index: int) -> None:
        address, size = self.history.addresses[index], self.history.sizes[index]
        if address in self.blocks or size <= 0:
            self._differs(index, "an allocation", f"{size} B at place {address}", "impossible")
            return
        block = self.blocks[address] = self.allocator.malloc(size)
        self.requested += size
        self.allocated += block.size
        self.count += 1
        if self.places.setdefault(address, block.address) != block.address:
            self._differs(index, "a block's place", address, "another free block")

    def free(self, index: int) -> None:
        address, size = self.history.addresses[index], self.history.sizes[index]
        block = self.blocks.pop(address, None)
        if block is None or block.requested != size:
            there = "nothing" if block is None else f"{block.requested} B"
            self._differs(index, "a free", f"{size} B at place {address}", there)
        if block is not None:
            self.allocator.free(block)
            self.freed += 1

    def _differs(self, index: int, what: str, recorded: object, modelled: object) -> None:
        self.mismatches.append(Mismatch(f"event {index}, {what}", recorded, modelled))


def check_allocator(
    recording: Recording, device_bytes: int | None = None, rules: TorchRules | None = None
) -> list[Mismatch]:
    """The model's departures from a recorded allocator; empty when they are equal.

    `device_bytes` is the memory of the card that it was recorded on, `rules` are those of the torch
    that recorded it; of the installed one if there are none.

    Of a chain of consequences the first few are given.
    """
    history = recording.history
    if history is None:
        raise ValueError("this recording kept no history")
    if len(set(history.streams)) > 1:
        return [Mismatch("streams", len(set(history.streams)), 1)]
    chosen = None if rules is None else rules.equal_blocks
    allocator = CachingAllocator(
        recording.pins.allocator, device_bytes=device_bytes, equal_blocks=chosen
    )
    rerun = _Rerun(history, allocator)
    recorded = [(ACTIONS[history.actions[i]], history.sizes[i]) for i in _segment_events(history)]
    starts = [history.addresses[i] for i in _segment_events(history)]

    def address_of(number: int) -> int:
        """A new segment lies where the recorded one lies that comes at the same time."""
        seen = len(allocator.segment_events)
        return (starts[seen] if seen < len(starts) else len(history) + number) << 50

    allocator.address_of = address_of
    for index in history.of("alloc", "free_completed"):
        act = rerun.alloc if history.actions[index] == ACTIONS.index("alloc") else rerun.free
        act(index)
        if len(rerun.mismatches) >= 3:
            break
    return [
        *_segment_mismatches(recorded, list(allocator.segment_events)),
        *rerun.mismatches,
        *_order_mismatch(rerun.places),
        *_total_mismatches(recording, rerun),
    ]


def _segment_events(history: History) -> list[int]:
    return history.of("segment_alloc", "segment_free", "segment_map", "segment_unmap")


def _segment_mismatches(recorded: Sequence[object], modelled: Sequence[object]) -> list[Mismatch]:
    """The first segment that differs; what follows is its consequence."""
    for number, (one, other) in enumerate(zip(recorded, modelled, strict=False)):
        if one != other:
            return [Mismatch(f"segment event {number}", one, other)]
    if len(recorded) != len(modelled):
        return [Mismatch("number of segment events", len(recorded), len(modelled))]
    return []


def _order_mismatch(places: dict[int, int]) -> list[Mismatch]:
    """Blocks must lie in the same order; the distances are not recorded."""
    modelled = [places[address] for address in sorted(places)]
    for rank, (one, other) in enumerate(pairwise(modelled)):
        if one >= other:
            return [Mismatch("order of addresses", f"place {rank} first", "the other way round")]
    return []


def _total_mismatches(recording: Recording, rerun: _Rerun) -> list[Mismatch]:
    counts = rerun.allocator.statistics
    grown = sum(
        size
        for action, size in rerun.allocator.segment_events
        if action in ("segment_alloc", "segment_map")
    )
    modelled = (
        counts.peak_requested,
        counts.peak_allocated,
        counts.peak_reserved,
        rerun.requested,
        rerun.allocated,
        grown,
        rerun.count,
        rerun.freed,
        counts.retries,
    )
    return [
        Mismatch(name, recording.statistics.get(name), value)
        for name, value in zip(STATISTICS, modelled, strict=True)
        if recording.statistics.get(name) != value
    ]
