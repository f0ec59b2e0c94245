"""One run of `bench evidence`: what was asked for, how much time is left, what became of the parts.

Measures nothing.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.card.detect import CardFacts
from bench.evidence.plan import Plan
from distill.base.signals import StopRequest
from distill.spec.candidate import Allocator, Candidate
from distill.spec.pins import Pins, pins_for

LARGE_CARD_BYTES = 64 * 2**30
UNTOUCHED_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for. `card` is `None` in a dry run; `profile` is to be verified.

    `began` is the monotonic time from which the minutes count.
    """

    out: Path
    minutes: float
    plan: Plan
    card: CardFacts | None
    profile: Path
    command: str
    began: float = field(default_factory=time.monotonic)


@dataclass
class Session:
    """One run: when each part must end, and what became of the parts before."""

    request: Request
    stop: StopRequest
    parts: list[dict[str, Any]] = field(default_factory=list)
    until: float = 1.0

    def left(self) -> float:
        """Seconds that the running part still has."""
        until = self.request.began + 60 * self.request.minutes * self.until
        return until - time.monotonic()

    @property
    def device(self) -> str:
        return "cpu" if self.request.card is None else "cuda"

    @property
    def is_large(self) -> bool:
        """Whether several children fit on the device side by side."""
        card = self.request.card
        return card is None or card.total_bytes >= LARGE_CARD_BYTES

    @property
    def cap_bytes(self) -> int | None:
        """What a child may reserve: on a small card less than would end the driver's memory."""
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
