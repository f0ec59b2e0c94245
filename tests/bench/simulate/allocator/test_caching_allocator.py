"""The allocator's model: rules by hand, and invariants over many random programs."""

import contextlib
import itertools
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulate.allocator.caching_allocator import CachingAllocator, OutOfMemory
from bench.simulate.allocator.segment_sizes import (
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL_SEGMENT,
    round_size,
    segment_size,
)
from bench.simulate.peaks import segment_orders
from bench.simulate.torch_rules import EqualBlocks, TorchRules
from distill.base.units import MIB

KINDS = ["expandable", "native"]
RULES = get_args(EqualBlocks)

sizes = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 2 * MIB),
    st.integers(1, 64 * MIB),
    st.sampled_from([MIB, MIB + 1, 10 * MIB, 10 * MIB - 1, 20 * MIB, 20 * MIB + 1]),
)
programs = st.lists(st.tuples(st.booleans(), sizes, st.integers(0, 1000)), max_size=120)


def play(allocator: CachingAllocator, program) -> list:
    """Run a random program: allocate, or free one of what lives. Gives what lives at the end."""
    live: list = []
    for frees, size, which in program:
        if frees and live:
            allocator.free(live.pop(which % len(live)))
        else:
            live.append(allocator.malloc(size))
    return live


def blocks_of(allocator: CachingAllocator, live) -> list:
    """Every block, from the ones in use and the free ones, each once."""
    found = {id(block): block for block in live}
    for pool in (allocator.small, allocator.large):
        for _, _, block in pool.free:
            found[id(block)] = block
    return list(found.values())


@pytest.mark.parametrize(
    ("size", "block", "segment"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (8_519_680, 8_519_680, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
    ],
)
def test_rounding(size: int, block: int, segment: int) -> None:
    assert round_size(size) == block
    assert segment_size(block) == segment


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(programs, st.sampled_from(RULES))
def test_no_byte_overlaps_and_none_is_lost(kind, program, rule) -> None:
    allocator = CachingAllocator(kind, equal_blocks=rule)
    live = play(allocator, program)
    ranges = sorted((b.address, b.address + b.size) for b in blocks_of(allocator, live))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert sum(end - start for start, end in ranges) == allocator.statistics.reserved


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(programs)
def test_reserved_is_at_least_allocated_is_at_least_requested(kind, program) -> None:
    allocator = CachingAllocator(kind)
    live = play(allocator, program)
    counts = allocator.statistics
    assert counts.requested == sum(block.requested for block in live)
    assert counts.allocated == sum(block.size for block in live)
    assert counts.reserved >= counts.allocated >= counts.requested
    assert counts.peak_reserved >= counts.peak_allocated >= counts.peak_requested


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(programs)
def test_free_neighbours_are_one_block(kind, program) -> None:
    allocator = CachingAllocator(kind)
    for block in play(allocator, program):
        allocator.free(block)
    for pool in (allocator.small, allocator.large):
        assert all(block.next is None or not block.next.mapped for _, _, block in pool.free)
    assert allocator.statistics.allocated == allocator.statistics.requested == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(programs, st.sampled_from(RULES))
def test_an_empty_cache_holds_nothing(kind, program, rule) -> None:
    allocator = CachingAllocator(kind, equal_blocks=rule)
    for block in play(allocator, program):
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.statistics.reserved == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(programs, st.integers(1, 200))
def test_a_cap_is_never_exceeded_by_more_than_a_page(kind, program, cap_mib) -> None:
    """PyTorch checks the segment's size, then maps whole pages: up to one page more."""
    cap = cap_mib * MIB
    allocator = CachingAllocator(kind, cap_bytes=cap)
    try:
        play(allocator, program)
    except OutOfMemory:
        assert allocator.statistics.retries
    slack = LARGE_SEGMENT if kind == "expandable" else 0
    assert allocator.statistics.peak_reserved <= cap + slack


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(programs)
def test_the_cap_needed_is_enough_and_one_byte_less_is_not(kind, program) -> None:
    free = CachingAllocator(kind)
    play(free, program)
    needed = free.statistics.cap_needed
    capped = CachingAllocator(kind, cap_bytes=needed)
    play(capped, program)
    assert capped.statistics == free.statistics
    assert capped.segment_events == free.segment_events
    if needed:
        tight = CachingAllocator(kind, cap_bytes=needed - 1)
        with contextlib.suppress(OutOfMemory):
            play(tight, program)
        assert tight.statistics.retries


@pytest.mark.parametrize("kind", KINDS)
@given(programs)
def test_the_same_program_gives_the_same_segments(kind, program) -> None:
    one, other = CachingAllocator(kind), CachingAllocator(kind)
    play(one, program)
    play(other, program)
    assert one.segment_events == other.segment_events


def test_native_small_requests_share_a_segment_and_large_ones_get_their_own() -> None:
    allocator = CachingAllocator("native")
    for size in (100, 200_000, 30 * MIB):
        allocator.malloc(size)
    assert allocator.segment_events == [
        ("segment_alloc", SMALL_SEGMENT),
        ("segment_alloc", 30 * MIB),
    ]


def test_native_keeps_a_rest_of_one_mib_unsplit() -> None:
    allocator = CachingAllocator("native")
    allocator.free(allocator.malloc(12 * MIB))
    assert allocator.malloc(11 * MIB).size == 12 * MIB
    allocator = CachingAllocator("native")
    allocator.free(allocator.malloc(12 * MIB))
    assert allocator.malloc(11 * MIB - MIN_BLOCK).size == 11 * MIB - MIN_BLOCK


def test_the_smallest_block_that_fits_is_taken_and_the_lowest_of_equals() -> None:
    allocator = CachingAllocator("native")
    big, one, other = (allocator.malloc(size * MIB) for size in (40, 30, 30))
    for block in (other, big, one):
        allocator.free(block)
    assert allocator.malloc(30 * MIB).address == one.address


@pytest.mark.parametrize("rule", RULES)
def test_segments_at_other_addresses_change_the_choice_up_to_torch_2_11(rule: EqualBlocks) -> None:
    falling = CachingAllocator("native", address_of=lambda n: -n << 40, equal_blocks=rule)
    one, other = falling.malloc(30 * MIB), falling.malloc(30 * MIB)
    falling.free(one)
    falling.free(other)
    taken = other if rule == "lowest address" else one
    assert falling.malloc(30 * MIB).address == taken.address


def test_expandable_memory_grows_by_the_pages_that_are_missing() -> None:
    allocator = CachingAllocator("expandable")
    allocator.malloc(15 * MIB)
    allocator.malloc(15 * MIB)
    allocator.malloc(100)
    assert allocator.segment_events == [
        ("segment_map", LARGE_SEGMENT),
        ("segment_map", LARGE_SEGMENT),
        ("segment_map", SMALL_SEGMENT),
    ]


def test_the_growing_end_is_used_only_when_nothing_else_fits() -> None:
    allocator = CachingAllocator("expandable")
    hole, _ = allocator.malloc(12 * MIB), allocator.malloc(3 * MIB)
    allocator.free(hole)  # 12 MiB free in front, 5 MiB at the end
    assert allocator.malloc(4 * MIB).address == hole.address


@pytest.mark.parametrize(("device_bytes", "takes_the_hole"), [(None, True), (96 * MIB, False)])
def test_the_end_of_a_segment_counts_for_what_a_card_leaves_it_to_grow_to(
    device_bytes: int | None, takes_the_hole: bool
) -> None:
    """A hole and an end of equal use: the end is kept back only while it can grow further."""
    allocator = CachingAllocator("expandable", device_bytes=device_bytes)
    hole = allocator.malloc(40 * MIB)
    between, last = allocator.malloc(40 * MIB), allocator.malloc(20 * MIB)
    allocator.free(hole)
    allocator.free(last)
    assert (allocator.malloc(12 * MIB).address < between.address) == takes_the_hole


def test_beyond_the_end_of_its_address_space_a_second_segment_begins() -> None:
    allocator = CachingAllocator("expandable", device_bytes=80 * MIB)
    one, other = allocator.malloc(80 * MIB), allocator.malloc(40 * MIB)
    assert allocator.segments == 2 and other.address - one.address > 2**39


@settings(max_examples=100, deadline=None)
@given(programs, st.integers(1, 2000 * MIB), st.integers(1, 80 * MIB))
def test_what_is_larger_than_the_card_is_counted_all_the_same(program, size, device_bytes) -> None:
    """So that it can be said by how much it is too large."""
    allocator = CachingAllocator("expandable", device_bytes=device_bytes)
    live = play(allocator, program)
    live.append(allocator.malloc(size))
    ranges = sorted((b.address, b.address + b.size) for b in blocks_of(allocator, live))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert sum(end - start for start, end in ranges) == allocator.statistics.reserved
    assert allocator.statistics.peak_reserved >= allocator.statistics.peak_requested


def test_a_retry_gives_pages_back_and_maps_them_where_they_are_needed() -> None:
    allocator = CachingAllocator("expandable", cap_bytes=60 * MIB)
    first, keep = allocator.malloc(40 * MIB), allocator.malloc(15 * MIB)
    allocator.free(first)
    block = allocator.malloc(30 * MIB)
    assert allocator.statistics.retries == 0 and block.address == first.address
    allocator.free(block)
    with pytest.raises(OutOfMemory):
        allocator.malloc(50 * MIB)
    assert allocator.statistics.retries == 1
    assert ("segment_unmap", 40 * MIB) in allocator.segment_events
    assert keep.requested


def test_native_memory_is_retried_too() -> None:
    allocator = CachingAllocator("native", cap_bytes=50 * MIB)
    allocator.free(allocator.malloc(40 * MIB))
    allocator.malloc(41 * MIB)
    assert allocator.statistics.retries == 1
    assert allocator.statistics.reserved == 42 * MIB


def test_other_orders_of_segments_are_tried_only_where_they_decide_anything() -> None:
    counts = {
        rule: len([*segment_orders("native", TorchRules(equal_blocks=rule))]) for rule in RULES
    }
    assert counts == {"lowest address": 17, "oldest block": 0, "oldest segment": 0}
    assert not [*segment_orders("expandable")]
