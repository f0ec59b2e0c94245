"""Sizes of the caching allocator's blocks and segments. Pure.

c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp, release 2.11.
"""

from distill.base.units import MIB

MIN_BLOCK = 512
SMALL_SIZE = MIB
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
MIN_LARGE_ALLOC = 10 * MIB
ROUND_LARGE = 2 * MIB
NO_END = 2**46
"""Bytes of address space that no run fills."""


def round_size(size: int) -> int:
    """Bytes of the block for a request (round_size)."""
    return MIN_BLOCK * max(1, -(-size // MIN_BLOCK))


def segment_size(size: int) -> int:
    """Bytes asked of the driver for a block of this rounded size (get_allocation_size)."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < MIN_LARGE_ALLOC:
        return LARGE_SEGMENT
    return ROUND_LARGE * -(-size // ROUND_LARGE)


def address_space(page: int, size: int, device_bytes: int | None) -> int:
    """Bytes that an expandable segment can grow to, in whole pages (ExpandableSegment).

    What no card of that memory can map has room all the same, so that it can be told by how
    much it is too large: PyTorch would be out of memory before it came to the end.
    """
    space = NO_END if device_bytes is None else device_bytes + device_bytes // 8
    return page * -(-max(space, size) // page)
