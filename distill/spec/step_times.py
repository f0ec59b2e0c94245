"""Times of an optimizer update: as they were timed, as they are predicted, and what they say. Pure.

A median alone hides that the same update took twice as long a moment later. Two configurations
whose quartile ranges overlap can't be told apart by their times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from distill.spec.calibration import Calibration
from distill.spec.candidate import Count
from distill.spec.file_values import Bytes

UNSTEADY = 0.10
"""Quartiles that lie further apart than this share of the median are wide."""

WAITING = 0.10
"""A card that does nothing for more than this share of an update waits for the host."""

Seconds = Annotated[float, Gt(0)]
"""What a file may say of a time that something took."""

BoundBy = Literal["host", "card"]


@dataclass(frozen=True, kw_only=True)
class CachingPass:
    """The pass before a training that caches its teacher's logits: its peak, and how fast it is.

    `images_per_second` of `None` is not known.
    """

    peak_bytes: Bytes
    images_per_second: Annotated[float, Gt(0)] | None


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """A quarter of the updates took less than `lower_seconds`, a quarter more than `upper_seconds`.

    Linear between the two nearest values, as NumPy's default.
    """

    lower_seconds: Seconds
    median_seconds: Seconds
    upper_seconds: Seconds

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median."""
        return (self.upper_seconds - self.lower_seconds) / self.median_seconds

    @property
    def is_unsteady(self) -> bool:
        """True if the quartiles are wide."""
        return self.spread > UNSTEADY

    def overlaps(self, other: "Quartiles") -> bool:
        """True if the ranges from quartile to quartile have a time in common."""
        return (
            self.lower_seconds <= other.upper_seconds and other.lower_seconds <= self.upper_seconds
        )


def quartiles_of(seconds: Sequence[float]) -> Quartiles:
    """The quartiles of at least one time; of a single one all three are that one."""
    if len(seconds) == 1:
        (only,) = seconds
        return Quartiles(lower_seconds=only, median_seconds=only, upper_seconds=only)
    # in order also where rounding makes the quartiles of equal times differ
    lower, middle, upper = sorted(quantiles(seconds, n=4, method="inclusive"))
    return Quartiles(lower_seconds=lower, median_seconds=middle, upper_seconds=upper)


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """The times that a choice rests on: how many updates in how many processes, and their spread.

    `launches` are kernels, copies and fills of one update; `card_seconds` is what the card takes
    for one when it need not wait for the host. Both are `None` where they were not measured.
    """

    updates: Count
    processes: Count
    quartiles: Quartiles
    card_seconds: Seconds | None = None
    launches: Count | None = None

    @property
    def bound_by(self) -> BoundBy | None:
        """What an update waits for: the host where the card idles, else the card."""
        if self.card_seconds is None:
            return None
        busy = self.card_seconds / self.quartiles.median_seconds
        return "host" if busy < 1 - WAITING else "card"


Parts = Annotated[float, Ge(0), Le(1e9)]
"""What a file may say of the seconds that one thing takes of others."""


@dataclass(frozen=True, kw_only=True)
class PredictedTiming:
    """The time of an update as it is predicted, by what the card does in it.

    It computes products (`product_seconds`), moves bytes (`memory_seconds`) or waits for the host
    to launch something (`host_seconds`). `launches` are those of one update; the host takes
    `launching_seconds` for them, most of it while the card is busy. `evaluated_per_second` are
    images in an evaluation. `calibration` holds the constants of the machine and their source.
    """

    product_seconds: Parts
    memory_seconds: Parts
    host_seconds: Parts
    launches: Annotated[int, Ge(0)]
    launching_seconds: Parts
    evaluated_per_second: Annotated[float, Ge(0)]
    calibration: Calibration

    @property
    def seconds(self) -> float:
        """Seconds of one update."""
        return self.product_seconds + self.memory_seconds + self.host_seconds

    @property
    def shares(self) -> dict[str, float]:
        """What bounds an update, the largest share first."""
        parts = {
            "host launches": self.host_seconds,
            "products": self.product_seconds,
            "memory": self.memory_seconds,
        }
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        return {name: seconds / (self.seconds or 1.0) for name, seconds in ordered}

    @property
    def words(self) -> str:
        """What bounds an update in a few words: `products 84 %, memory 16 %`, in all 100 %."""
        exact = {name: 100 * share for name, share in self.shares.items()}
        shown = {name: int(share) for name, share in exact.items()}
        for name in sorted(exact, key=lambda name: shown[name] - exact[name]):
            if sum(shown.values()) < round(sum(exact.values())):
                shown[name] += 1
        return ", ".join(f"{name} {share} %" for name, share in shown.items() if share)
