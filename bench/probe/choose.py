"""The choice: the fastest configuration that is safe and leaves the optimisation as it is. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.trials import Trial
from distill.base.errors import NoSafeChoice
from distill.base.units import MIB
from distill.spec.candidate import StageName
from distill.spec.profile import Budget


@dataclass(frozen=True)
class Verdict:
    """A trial and what speaks for or against it, in a few words."""

    trial: Trial
    words: str
    eligible: bool


def verdict(trial: Trial, budget: Budget, effective_batch: int) -> Verdict:
    """Judge whether a trial may be chosen, and say why not."""
    candidate = trial.candidate
    needed = None if trial.reading is None else trial.reading.safe_bytes
    if trial.outcome == "skipped":
        return Verdict(trial, trial.error or "skipped", False)
    if needed is not None and needed > budget.limit_bytes:
        over = -(-(needed - budget.limit_bytes) // MIB)
        return Verdict(trial, f"{over:,} MiB too large", False)
    if trial.outcome != "ok" or needed is None:
        return Verdict(trial, trial.outcome, False)
    if candidate.micro_batch > effective_batch:
        return Verdict(trial, f"fits, but an update has {effective_batch}", False)
    if effective_batch % candidate.micro_batch:
        return Verdict(trial, f"fits, but does not divide {effective_batch}", False)
    return Verdict(trial, "safe", True)


def choose(
    trials: Iterable[Trial],
    stages: Sequence[StageName],
    budget: Budget,
    effective: Mapping[StageName, int],
) -> dict[StageName, Trial]:
    """The fastest safe trial of each stage; of equally fast ones the one with more headroom.

    Measured trials go before predicted ones, whose speed is only a bound. Raises `NoSafeChoice`
    when a stage has none.
    """
    judged = [verdict(trial, budget, effective[trial.candidate.stage]) for trial in trials]
    chosen: dict[StageName, Trial] = {}
    for stage in stages:
        mine = [v.trial for v in judged if v.eligible and v.trial.candidate.stage == stage]
        if not mine:
            raise NoSafeChoice(
                f"Stage {stage} has no configuration within {budget.limit_bytes // MIB} MiB. "
                "Use a larger card, a smaller model or smaller images. The trials are kept."
            )
        chosen[stage] = max(mine, key=_merit)
    return chosen


def _merit(trial: Trial) -> tuple[bool, float, int]:
    reading = trial.reading
    assert reading is not None and reading.safe_bytes is not None
    return (reading.source == "measured", trial.images_per_second or 0.0, -reading.safe_bytes)


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (memory, speed) points that no other beats in both, by memory."""
    kept: list[tuple[float, float]] = []
    for memory, speed in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or speed > kept[-1][1]:
            kept.append((memory, speed))
    return kept
