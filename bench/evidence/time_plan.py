"""The time of `bench evidence`: what each part takes, and until when it may go on. Pure.

What matters most comes first. A part may go on as long as those after it can still take what they
took on a card; of the timings, which come last and go round by round, half is kept for them.
However few the minutes are, a part has its least share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.evidence.plan import Plan

START_SECONDS = 25.0
"""Imports from a cold disk, before the first part."""

CARD = "an NVIDIA H100 with 16 cores"
"""The card that `_READINGS` are of (results/evidence/h100/index.json)."""


@dataclass(frozen=True)
class _Reading:
    """What a part took: seconds for so many, `at_once` of them side by side.

    `until` is the share of all minutes for which it may go on in any case; `kept` is the share of
    its seconds that the parts before it leave.
    """

    seconds: float
    count: int
    at_once: int
    until: float
    kept: float = 1.0


_READINGS = {
    "host": _Reading(0.1, 1, 1, 0.05),
    "golden": _Reading(49.3, 27, 4, 0.3),
    "verification": _Reading(148.3, 3, 3, 0.75),
    "cells": _Reading(45.0, 25, 4, 0.85),
    "throughput": _Reading(117.7, 12, 1, 1.0, kept=0.5),
}


PARTS = tuple(_READINGS)


@dataclass(frozen=True)
class PartTime:
    """A part's plan: how many, the seconds that they take, and when it must end.

    `expected_seconds` are those of a card like `CARD`; `until_seconds` count from the beginning.
    """

    part: str
    count: int
    expected_seconds: float
    until_seconds: float


def part_times(plan: Plan, stages: int, minutes: float, *, side_by_side: bool) -> list[PartTime]:
    """Every part of the plan in its order; `stages` are those of the profile.

    Where a card does not hold several children `side_by_side`, recordings and proofs take longer.
    """
    counts = {
        "host": 1,
        "golden": len(plan.golden),
        "verification": stages,
        "cells": len(plan.cells),
        "throughput": len(plan.timings()),
    }
    expected = {
        part: _READINGS[part].seconds
        * count
        / _READINGS[part].count
        # one after the other: so many times as long, at most
        * (1 if side_by_side else _READINGS[part].at_once)
        for part, count in counts.items()
    }
    found, kept_seconds = [], 0.0
    for part, count in reversed(counts.items()):
        least_seconds = 60 * minutes * _READINGS[part].until
        until_seconds = max(least_seconds, 60 * minutes - kept_seconds)
        found.append(PartTime(part, count, round(expected[part], 1), round(until_seconds, 1)))
        kept_seconds += expected[part] * _READINGS[part].kept
    return found[::-1]


def plan_text(times: Sequence[PartTime], minutes: float) -> str:
    """The whole plan in one line: how many of what, and what they take on `CARD`."""
    parts = [
        f"{one.count} × {one.part} {one.expected_seconds:.0f} s, by {one.until_seconds:.0f} s"
        for one in times
        if one.part != "host"
    ]
    total = START_SECONDS + sum(one.expected_seconds for one in times)
    return (
        f"{'; '.join(parts)}. On {CARD} that takes {total:.0f} s of {60 * minutes:.0f} s, "
        f"{START_SECONDS:.0f} s of start among them."
    )
