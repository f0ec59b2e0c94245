"""The largest batch that fits, by asking as few batch sizes as it takes. Pure.

Memory grows with the batch, but not at every step: pages and segments are coarse, and free
blocks that one batch can use are too small for the next.
"""

from collections.abc import Callable, Sequence

from distill.base.units import MIB
from distill.spec.bounds import MOST_IMAGES
from distill.spec.candidate import Candidate

EDGE, EDGE_EXPANDABLE = 64, 16
EDGE_BYTES = 512 * MIB
"""The number of batch sizes below the largest that are looked at one by one, while they are that
close to the limit. The deepest dip in 1,164 predicted cells of the default chain was 380 MiB.
With segments that expand, whose pages are small, a misfit was at most 12 images below the largest
batch in 69 cells of it, and 8, 16 and 64 found the same."""

MANY_IMAGES = 4096
EDGE_OF_MANY_IMAGES = 8
"""Where so many images fit, one more is a matter of a kilobyte or few: fewer are looked at."""

ENOUGH_IMAGES = 8
"""Where so many images fit, a batch of one is never chosen."""

Needed = Callable[[int], int]
"""Bytes that a batch size needs, from 1 up."""


def largest_below_first_misfit(
    needed: Needed, limit_bytes: int, most: int = MOST_IMAGES, *, edge: int = EDGE
) -> int:
    """The largest batch below the first that needs more than `limit_bytes`; 0 if none fits.

    At most `most`. Bisects, then looks at up to `edge` batch sizes just below: one of them may not
    fit though larger ones do. One image alone, which is another program, is asked about only where
    two don't fit.
    """

    def fits(batch: int) -> bool:
        return needed(batch) <= limit_bytes

    high = 2
    while high <= most and fits(high):
        high *= 2
    low = _last_before(min(high, most + 1), fits)
    while (dip := _first_misfit_below(low, needed, limit_bytes, edge)) is not None:
        low = _last_before(dip, fits)
    return low


def worth_asking(cells: Sequence[Candidate], largest: int, effective_batch: int) -> list[Candidate]:
    """The cells without that of one image, unless it may be the choice; at most `largest` fit.

    One image is another program than more (a class token's gradient lies otherwise), and never
    faster: its trace is worth its time only where there is little else to choose from.
    """
    may_be_one = largest < ENOUGH_IMAGES or effective_batch % 2 == 1
    return [cell for cell in cells if cell.micro_batch > 1 or may_be_one]


def _first_misfit_below(low: int, needed: Needed, limit_bytes: int, edge: int) -> int | None:
    """The smallest batch among those just below `low` that does not fit though `low` does."""
    found = None
    edge = edge if low < MANY_IMAGES else EDGE_OF_MANY_IMAGES
    for batch in range(low - 1, max(1, low - 1 - edge), -1):
        size = needed(batch)
        if size > limit_bytes:
            found = batch
        elif size <= limit_bytes - EDGE_BYTES:
            break
    return found


def _last_before(high: int, fits: Callable[[int], bool]) -> int:
    """The batch below `high`, which is one too many, where bisection ends."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
