"""The warm-up's rule: updates are timed once their times have settled, or a bound is reached. Pure.

pyperf calibrates its warm-ups by holding the first half of a sample against the second; so does
this, with fewer values, as an update takes up to seconds, and by medians, as one odd update among
them says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WINDOW = 3
"""Updates in each half."""

TOLERANCE = 0.05
"""The medians of both halves may differ by this share of the later one."""


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Bounds of a warm-up: some updates always, and no more once one of the others is reached."""

    at_least: int = 3
    at_most: int = 20
    limit_seconds: float = 3.0

    def is_over(self, seconds: Sequence[float]) -> bool:
        """Tell from the times of all updates so far whether the next one may be timed."""
        if len(seconds) < self.at_least:
            return False
        spent = len(seconds) >= self.at_most or sum(seconds) >= self.limit_seconds
        return spent or is_settled(seconds)


def is_settled(seconds: Sequence[float]) -> bool:
    """True if the last three updates took as long as the three before them, by their medians."""
    if len(seconds) < 2 * WINDOW:
        return False
    before, after = median(seconds[-2 * WINDOW : -WINDOW]), median(seconds[-WINDOW:])
    return abs(after - before) <= TOLERANCE * after
