"""Turns: the fastest configurations of a stage are timed again, in processes that alternate. Pure.

One configuration is up to twice as fast in one process as in the next, for reasons of the machine
that last longer than a trial. So no choice rests on one process: rivals are timed in turn, what the
machine does meets them all, and the median is taken over all their updates. What measures is
injected.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from bench.probe.choose import best_of, is_level, verdict
from bench.trials.trial import Measured, Trial
from distill.spec.profile import Budget

PROCESSES = 3
"""How many processes time a rival at most, the search's included."""

RIVALS = 3
"""How many configurations of a stage are timed in turn at a time."""

MOST = RIVALS * (PROCESSES - 1)
"""How many further trials a stage may take."""

CLOSE = 1.25
"""A rival's lower quartile is at most this many times the upper quartile of the fastest."""

N = TypeVar("N", int, float)

Again = Callable[[Trial, int], Trial]
"""Measures a trial's candidate once more; the number of the turn goes with it."""


def take_turns(
    trials: Sequence[Trial], budget: Budget, effective_batch: int, again: Again
) -> list[Trial]:
    """The measured trials of a stage; those of rivals hold the readings of all their turns.

    The fastest and what is close to it are timed once more in any case, and once again where the
    spread leaves open which is the fastest; in all at most `MOST` times.
    """
    found, taken = list(trials), 0
    while due := _due(_rivals(found, budget, effective_batch))[: MOST - taken]:
        for rival in due:
            found[found.index(rival)] = joined(rival, again(rival, rival.turn + 1))
        taken += len(due)
    return found


def _due(rivals: Sequence[Trial]) -> list[Trial]:
    """Those whose turn it is: of the rivals the ones that had the fewest, if any need another."""
    is_open = any(is_level(rival, rivals[0]) for rival in rivals[1:])
    fewest = min((rival.turn for rival in rivals), default=0)
    if fewest + 1 >= (PROCESSES if is_open else 2):
        return []
    return [rival for rival in rivals if rival.turn == fewest]


def _rivals(trials: Sequence[Trial], budget: Budget, effective_batch: int) -> list[Trial]:
    """The fastest, the one that would be chosen, and others that are close, a few in all."""
    safe = [
        trial
        for trial in trials
        if trial.quartiles is not None and verdict(trial, budget, effective_batch).eligible
    ]
    if not safe:
        return []
    by_speed = sorted(safe, key=lambda trial: -(trial.images_per_second or 0))
    fastest, chosen = by_speed[0], best_of(safe)
    close = [trial for trial in by_speed if _is_close(trial, fastest)]
    return sorted(close, key=lambda trial: (trial is not fastest, trial is not chosen))[:RIVALS]


def _is_close(trial: Trial, fastest: Trial) -> bool:
    assert trial.quartiles is not None and fastest.quartiles is not None
    return trial.quartiles.lower_seconds <= CLOSE * fastest.quartiles.upper_seconds


def joined(trial: Trial, further: Trial) -> Trial:
    """The trial with a further turn of it.

    A turn that failed makes it one that failed: what does not go through every time is not safe. A
    turn that another process disturbed tells nothing.
    """
    if further.outcome == "contaminated":
        return trial
    if not isinstance(trial.reading, Measured) or not isinstance(further.reading, Measured):
        return replace(further, reading=trial.reading)
    return replace(further, reading=_joined_readings(trial.reading, further.reading))


def _joined_readings(one: Measured, other: Measured) -> Measured:
    """All updates of both, the larger of both peaks, and the host's share where it was read."""
    before = len(one.step_seconds)
    later = [replace(r, first_step=r.first_step + before) for r in other.rounds]
    whole = replace(
        one,
        requested_bytes=_larger(one.requested_bytes, other.requested_bytes),
        allocated_bytes=_larger(one.allocated_bytes, other.allocated_bytes),
        reserved_bytes=_larger(one.reserved_bytes, other.reserved_bytes),
        cold_reserved_bytes=_larger(one.cold_reserved_bytes, other.cold_reserved_bytes),
        alloc_retries=_larger(one.alloc_retries, other.alloc_retries),
        warm_up_seconds=(*one.warm_up_seconds, *other.warm_up_seconds),
        settled=None if one.settled is None else one.settled and other.settled,
        step_seconds=(*one.step_seconds, *other.step_seconds),
        rounds=(*one.rounds, *later),
        # it is at most too large, so the smaller one is nearer
        card_seconds=min(_known(one.card_seconds, other.card_seconds), default=None),
        launches=next(iter(_known(one.launches, other.launches)), None),
    )
    reasons = {**(other.missing or {}), **(one.missing or {})}
    missing = {name: why for name, why in reasons.items() if getattr(whole, name, None) is None}
    return replace(whole, missing=missing or None)


def _known(*values: N | None) -> list[N]:
    return [value for value in values if value is not None]


def _larger(one: int | None, other: int | None) -> int | None:
    return max(_known(one, other), default=None)
