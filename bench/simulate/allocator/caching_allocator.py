"""PyTorch's caching allocator for CUDA as a model: the same blocks, segments and peaks.

Pure arithmetic, no torch. Rules from c10/cuda/CUDACachingAllocator.cpp and
c10/core/AllocatorConfig.h, release 2.11, and which of equal blocks later ones take: rounding, a
small and a large pool, best fit, split, merge, native segments and expandable ones, the cap,
release and retry. One stream, which is all that a training step uses.

Refuses what the pins rule out: max_split_size, garbage collection, roundup_power2_divisions,
private pools, cudaMallocAsync.
"""

from bisect import bisect_left, insort
from itertools import count
from typing import Literal

from bench.simulate.allocator.blocks import (
    AddressOf,
    Block,
    Pool,
    increasing_address,
    link,
    lowest_room,
    reach,
)
from bench.simulate.allocator.memory_stats import Statistics
from bench.simulate.allocator.segment_sizes import (
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL_SEGMENT,
    SMALL_SIZE,
    address_space,
    segment_size,
)
from bench.simulate.torch_rules import EqualBlocks, installed_rules
from distill.spec.candidate import Allocator

SegmentAction = Literal["segment_alloc", "segment_free", "segment_map", "segment_unmap"]


class OutOfMemory(Exception):
    """No block could be had under the cap."""


class CachingAllocator:
    """One device. `cap_bytes` bounds what may be reserved.

    `device_bytes` is the memory of the card, an eighth more of which is the address space of an
    expandable segment: its end counts for what it can grow to, so a small card is not filled as a
    large one is. `None` is without end.

    Which of free blocks of equal size is taken depends on the release of torch: `equal_blocks` is
    that of the installed one if none is named. With native segments the driver gives addresses
    as it likes: `address_of` says where the n-th segment lies.
    """

    def __init__(
        self,
        kind: Allocator,
        *,
        cap_bytes: int | None = None,
        device_bytes: int | None = None,
        address_of: AddressOf = increasing_address,
        equal_blocks: EqualBlocks | None = None,
    ) -> None:
        self.equal_blocks = equal_blocks or installed_rules().equal_blocks
        self.ages = count() if self.equal_blocks == "oldest block" else None
        self.expandable = kind == "expandable"
        self.device_bytes = device_bytes
        self.cap_bytes = cap_bytes
        self.address_of = address_of
        least_of_large = MIN_BLOCK if self.expandable else SMALL_SIZE + 1  # should_split
        self.small = Pool(SMALL_SEGMENT, MIN_BLOCK)
        self.large = Pool(LARGE_SEGMENT, least_of_large)
        self.statistics = Statistics()
        self.segment_events: list[tuple[SegmentAction, int]] = []
        self.segments = 0

    def malloc(self, size: int) -> Block:
        """A block for `size` > 0 bytes. Raises `OutOfMemory` when the cap leaves no room.

        Runs for every birth of every batch size that is asked about, as `free` does.
        """
        rounded = MIN_BLOCK * -(-size // MIN_BLOCK)
        pool = self.small if rounded <= SMALL_SIZE else self.large
        block = self._best_fit(pool, rounded) or self._grow(pool, rounded)
        if block is None:
            block = self._retry(pool, rounded)
        if block.size - rounded >= pool.smallest_rest:
            self._split(block, rounded, rest_is_new=False)
        block.requested = size
        counts = self.statistics
        requested = counts.requested = counts.requested + size
        allocated = counts.allocated = counts.allocated + block.size
        if requested > counts.peak_requested:
            counts.peak_requested = requested
        if allocated > counts.peak_allocated:
            counts.peak_allocated = allocated
        return block

    def free(self, block: Block) -> None:
        """Give a block back; free neighbours become one block."""
        counts = self.statistics
        counts.requested -= block.requested
        counts.allocated -= block.size
        block.requested = 0
        before, behind = block.previous, block.next
        if before is not None and not before.requested:
            self._merge(block, before)
        if behind is not None and not behind.requested:
            self._merge(block, behind)
        insort(block.pool.free, (block.size, block.rank, block))

    def empty_cache(self) -> None:
        """Give back to the driver whatever no block uses (release_cached_blocks)."""
        for pool in (self.large, self.small):
            for _, _, block in list(pool.free):
                if self.expandable:
                    self._unmap(block)
                elif block.previous is None and block.next is None:
                    pool.remove(block)
                    self._note("segment_free", block.size)

    def layout(self) -> tuple[object, ...]:
        """The free blocks, and the number of segment events so far.

        Equal at two moments if and only if no segment changed between them and the same is free.
        """
        lists = (self.small.free, self.large.free)
        free = tuple((size, rank) for blocks in lists for size, rank, _ in blocks)
        return len(self.segment_events), free

    def _best_fit(self, pool: Pool, size: int) -> Block | None:
        """The smallest free block that is large enough (get_free_block).

        The end of an expandable segment counts as all that it can grow to, so a larger block
        elsewhere goes before it.
        """
        free = pool.free
        index = bisect_left(free, (size,))
        last = len(free) - 1
        if index > last:
            return None
        if self.expandable:
            while index < last and reach(free[index + 1][2]) < reach(free[index][2]):
                index += 1
        return free.pop(index)[2]

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """A block from new memory (alloc_block), or `None` when the cap forbids it."""
        needed = self.statistics.reserved + segment_size(size)
        if self.cap_bytes is not None and needed > self.cap_bytes:
            return None
        if needed > self.statistics.cap_needed:
            self.statistics.cap_needed = needed
        if self.expandable:
            return self._extend(pool, size)
        block = self._segment(pool, segment_size(size))
        self._note("segment_alloc", block.size)
        return block

    def _segment(self, pool: Pool, size: int, mapped: bool = True) -> Block:
        """A new segment as one block."""
        self.segments += 1
        address = rank = self.address_of(self.segments)
        if self.equal_blocks == "oldest segment":
            rank = self.segments << 64
        elif self.ages is not None:
            rank = next(self.ages)
        return Block(pool, address, size, rank, mapped)

    def _retry(self, pool: Pool, size: int) -> Block:
        """Release what is cached and ask once more."""
        self.empty_cache()
        self.statistics.retries += 1
        block = self._grow(pool, size)
        if block is None:
            raise OutOfMemory(f"{size} bytes do not fit under a cap of {self.cap_bytes} bytes")
        return block

    def _split(self, block: Block, size: int, *, rest_is_new: bool = True) -> None:
        """Cut `block` to `size`; the rest becomes a free block behind it.

        Where blocks have ages, PyTorch makes a new one of what it gives out (alloc_found_block),
        and else of the rest.
        """
        rest = Block(
            block.pool, block.address + size, block.size - size, block.rank + size, block.mapped
        )
        if self.ages is not None:
            rest.rank = next(self.ages)
            if not rest_is_new:
                rest.rank, block.rank = block.rank, rest.rank
        rest.previous, rest.next = block, block.next
        if rest.next is not None:
            rest.next.previous = rest
        block.size, block.next = size, rest
        rest.pool.insert(rest)

    def _merge(self, block: Block, neighbour: Block | None) -> None:
        """Take a free neighbour into `block` (try_merge_blocks)."""
        if neighbour is None or neighbour.requested or neighbour.mapped != block.mapped:
            return
        block.pool.remove(neighbour)
        if neighbour is block.previous:
            block.address = neighbour.address
            if self.ages is None:
                block.rank = neighbour.rank
            block.previous = neighbour.previous
            if block.previous is not None:
                block.previous.next = block
        else:
            link(block, neighbour.next)
        block.size += neighbour.size

    # -- expandable segments

    def _extend(self, pool: Pool, size: int) -> Block:
        """Map pages where they make room for `size` (try_allocate_expandable_block)."""
        block = lowest_room(pool, size)
        if block is None:
            block = self._segment(
                pool, address_space(pool.page, size, self.device_bytes), mapped=False
            )
            pool.base = block.address
            pool.insert(block)
        if not block.mapped:
            self._map(block, min(block.size, size))
        while block.size < size:
            following = block.next
            assert following is not None
            self._map(following, min(size - block.size, following.size))
            block = following
        pool.remove(block)
        return block

    def _map(self, block: Block, size: int) -> None:
        """Put pages behind the first `size` bytes of an unmapped block (map_block)."""
        pool = block.pool
        mapped_bytes = pool.page * -(-size // pool.page)
        pool.remove(block)
        if mapped_bytes < block.size:
            self._split(block, mapped_bytes)
        block.mapped = True
        self._merge(block, block.previous)
        self._merge(block, block.next)
        pool.insert(block)
        self._note("segment_map", mapped_bytes)

    def _unmap(self, block: Block) -> None:
        """Take the whole pages inside a free block away (unmap_block)."""
        pool, base, page = block.pool, block.pool.base, block.pool.page
        begin = base + page * -(-(block.address - base) // page)
        end = base + page * ((block.address + block.size - base) // page)
        if begin >= end:
            return
        pool.remove(block)
        if begin > block.address:
            self._split_before(block, begin)
        if block.address + block.size > end:
            self._split(block, end - block.address)
        block.mapped = False
        self._merge(block, block.previous)
        self._merge(block, block.next)
        pool.insert(block)
        self._note("segment_unmap", end - begin)

    def _split_before(self, block: Block, address: int) -> None:
        """Leave what lies before `address` as a free block of its own."""
        front = Block(block.pool, block.address, address - block.address, block.rank)
        if self.ages is not None:
            front.rank = next(self.ages)
        else:
            block.rank += front.size
        front.previous = block.previous
        if front.previous is not None:
            front.previous.next = front
        block.size -= front.size
        block.address = address
        link(front, block)
        block.pool.insert(front)

    def _note(self, action: SegmentAction, size: int) -> None:
        counts = self.statistics
        grows = action in ("segment_alloc", "segment_map")
        counts.reserved += size if grows else -size
        counts.peak_reserved = max(counts.peak_reserved, counts.reserved)
        self.segment_events.append((action, size))
