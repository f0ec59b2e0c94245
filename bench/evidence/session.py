"""One run of `bench evidence`: what was asked for, and how much time a part of it has left.

Measures nothing.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.card.detect import CardFacts
from bench.evidence.plan import Plan
from distill.base.signals import StopRequest
from distill.base.units import GIB, MIB
from distill.spec.candidate import Allocator, Candidate
from distill.spec.pins import Pins, default_allocator, pins_for

LARGE_CARD_BYTES = 64 * GIB
UNTOUCHED_BYTES = 256 * MIB
CHILD_SECONDS = 90.0
"""The longest that one child may take."""

ALLOCATOR: Allocator = default_allocator()


@dataclass(frozen=True, kw_only=True)
class EvidenceRequest:
    """One call of `bench evidence`. `card` is `None` in a dry run; `profile` is to be verified.

    `stages` is how many it has; `began` is the monotonic time from which the minutes count.
    """

    out: Path
    minutes: float
    plan: Plan
    stages: int = 1
    card: CardFacts | None
    profile: Path
    command: str
    began: float = field(default_factory=time.monotonic)


@dataclass
class DoneCount:
    """How many a part has done so far."""

    done: int = 0


@dataclass(frozen=True)
class Session:
    """One run as a part of it sees it: it must end `until_seconds` after the beginning.

    `None`: when all minutes are over. `count` is the part's own, to be counted up as it goes.
    """

    request: EvidenceRequest
    stop: StopRequest
    until_seconds: float | None = None
    count: DoneCount = field(default_factory=DoneCount)

    def left(self) -> float:
        """Seconds that the running part still has."""
        until_seconds = 60 * self.request.minutes
        if self.until_seconds is not None:
            until_seconds = min(until_seconds, self.until_seconds)
        return self.request.began + until_seconds - time.monotonic()

    @property
    def device(self) -> str:
        return "cpu" if self.request.card is None else "cuda"

    @property
    def is_large(self) -> bool:
        """Tell whether several children fit on the device side by side."""
        card = self.request.card
        return card is None or card.total_bytes >= LARGE_CARD_BYTES

    @property
    def cap_bytes(self) -> int | None:
        """The cap of a child: on a small card less than would end the driver's memory."""
        card = self.request.card
        if card is None or self.is_large:
            return None
        return max(1, card.free_bytes - UNTOUCHED_BYTES)

    def pins(self, candidate: Candidate, allocator: Allocator) -> Pins:
        """The pins on this card; a dry run takes those of the default target."""
        card = self.request.card
        capability = (8, 9) if card is None else card.compute_capability
        return pins_for(
            candidate.precision,
            capability,
            deterministic=candidate.deterministic,
            allocator=allocator,
        )
