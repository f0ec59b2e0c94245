"""Blocks of the caching allocator, and the pools that they wait in. Pure; decides nothing.

Block and BlockPool of c10/cuda/CUDACachingAllocator.cpp, release 2.11.
"""

from bisect import bisect_left, insort
from collections.abc import Callable

AddressOf = Callable[[int], int]
"""Where the driver puts a segment, by its number."""


def increasing_address(number: int) -> int:
    """An address above those of all segments before it."""
    return number << 64


class Block:
    """A range of one segment: in use, free, or (expandable only) without pages behind it."""

    __slots__ = ("address", "mapped", "next", "pool", "previous", "rank", "requested", "size")

    def __init__(
        self, pool: "Pool", address: int, size: int, rank: int, mapped: bool = True
    ) -> None:
        """Of free blocks of one size the one with the lowest `rank` goes first."""
        self.pool = pool
        self.address = address
        self.rank = rank
        self.size = size
        self.mapped = mapped
        self.requested = 0
        self.previous: Block | None = None
        self.next: Block | None = None

    @property
    def is_free(self) -> bool:
        """True if nobody uses it, be there pages behind it or not."""
        return not self.requested


class Pool:
    """Blocks of one kind: the free ones by size, then rank; the unmapped ones by address.

    What is left of a block is cut off from `smallest_rest` bytes on.
    """

    __slots__ = ("base", "free", "page", "smallest_rest", "unmapped")

    def __init__(self, page: int, smallest_rest: int) -> None:
        self.page = page
        self.smallest_rest = smallest_rest
        self.base = 0
        self.free: list[tuple[int, int, Block]] = []
        self.unmapped: list[tuple[int, Block]] = []

    def insert(self, block: Block) -> None:
        """Put a free block where it belongs."""
        if block.mapped:
            insort(self.free, (block.size, block.rank, block))
        else:
            insort(self.unmapped, (block.address, block))

    def remove(self, block: Block) -> None:
        """Take a free block out."""
        if block.mapped:
            del self.free[bisect_left(self.free, (block.size, block.rank))]
        else:
            del self.unmapped[bisect_left(self.unmapped, (block.address,))]


def link(block: Block, following: Block | None) -> None:
    """Put `following` behind `block`."""
    block.next = following
    if following is not None:
        following.previous = block


def reach(block: Block) -> int:
    """Bytes that the block can grow to: its size and that of the unmapped one behind it."""
    following = block.next
    return block.size if following is None or following.mapped else block.size + following.size


def lowest_room(pool: Pool, size: int) -> Block | None:
    """The lowest place where free and unmapped blocks together hold `size`."""
    for _, unmapped in pool.unmapped:
        start = unmapped
        if start.previous is not None and start.previous.is_free:
            start = start.previous
        room, block = 0, start
        while room < size and block is not None and block.is_free:
            room += block.size
            block = block.next  # type: ignore[assignment]
        if room >= size:
            return start
    return None
