"""The choice: the fastest configuration that is safe and leaves the optimisation as it is. Pure.

Times decide only where they can: of configurations whose times overlap, or whose predicted times
are nearly equal, the smallest is chosen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from bench.trials.trial import Trial
from distill.base.errors import NoSafeChoice
from distill.base.units import MIB
from distill.spec.candidate import StageName
from distill.spec.profile import Budget

LEVEL = 0.002
"""Two predicted times of one stage that are no further apart, as a share of the shorter, tell
nothing. A prediction is off by more (docs/prediction.md, "Times"), but for all micro-batches alike,
and what it leaves out, kernels too small for a card, speaks for the larger one as well."""

SURELY = 0.05
"""The share by which a stage with a cached teacher must be shorter: fewer views teach less."""

SLOWER_HOST = 2.0
"""How many times as long as assumed a host may take for its launches: those of the two machines
that were read differ by 1.5. A small micro-batch that would then be slower is not level."""


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
        return Verdict(trial, _with_steadiness(trial.outcome, trial), False)
    if candidate.micro_batch > effective_batch:
        return Verdict(trial, f"fits, but an update has {effective_batch}", False)
    if effective_batch % candidate.micro_batch:
        return Verdict(trial, f"fits, but does not divide {effective_batch}", False)
    return Verdict(trial, _with_steadiness("safe", trial), True)


def _with_steadiness(words: str, trial: Trial) -> str:
    unsteady = trial.quartiles is not None and trial.quartiles.is_unsteady
    return f"{words}, unsteady" if unsteady else words


def choose(
    trials: Iterable[Trial],
    stages: Sequence[StageName],
    budget: Budget,
    effective: Mapping[StageName, int],
    caching_shares: Mapping[StageName, float] = MappingProxyType({}),
) -> dict[StageName, Trial]:
    """The best of the safe trials of each stage (see `best_of`).

    Where the teacher may be online or cached, the shorter stage decides, caching included.
    Raises `NoSafeChoice` when a stage has none.
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
        chosen[stage] = _shorter_stage(mine, caching_shares.get(stage, 0.0))
    return chosen


def _shorter_stage(safe: Sequence[Trial], caching_share: float) -> Trial:
    """The best with an online teacher, unless a stage with a cached one is surely shorter."""
    modes = [
        best_of(mine)
        for mode in ("online", "cached")
        if (mine := [trial for trial in safe if trial.candidate.teacher_logits == mode])
    ]
    first, last = modes[0], modes[-1]
    shorter = _seconds_an_image(last, caching_share) * (1 + SURELY)
    return last if shorter < _seconds_an_image(first, caching_share) else first


def _seconds_an_image(trial: Trial, caching_share: float) -> float:
    """Seconds of a stage for each image of each epoch, its part of the caching included.

    `caching_share` is how many views are cached for each epoch.
    """
    caching = None if trial.reading is None else trial.reading.caching
    once = None if caching is None else caching.images_per_second
    before = caching_share / once if once else 0.0
    return 1 / trial.images_per_second + before if trial.images_per_second else inf


def best_of(safe: Sequence[Trial]) -> Trial:
    """The smallest of those that are as fast as the fastest, as far as their times can tell.

    Measured trials go before predicted ones.
    """
    fastest = max(safe, key=_merit)
    return min((one for one in safe if is_level(one, fastest)), key=_needed_and_slowness)


def is_level(trial: Trial, fastest: Trial) -> bool:
    """True if the times leave open which is faster: their ranges from quartile to quartile overlap.

    Predicted times are level within `LEVEL`; speeds that are only bounds, where they are equal.
    """
    if trial.quartiles is not None and fastest.quartiles is not None:
        return trial.quartiles.overlaps(fastest.quartiles)
    if trial.predicted_timing is not None and fastest.predicted_timing is not None:
        return trial == fastest or _surely_per_second(trial) * (1 + LEVEL) >= _merit(fastest)[1]
    return _merit(trial) == _merit(fastest)


def _surely_per_second(trial: Trial) -> float:
    """Images a second also where the host is slower than is assumed."""
    timing = trial.predicted_timing
    assert timing is not None
    slower = SLOWER_HOST if timing.calibration.source == "assumed" else 1.0
    seconds = max(timing.seconds, slower * timing.launching_seconds)
    return trial.candidate.effective_batch / seconds


def _merit(trial: Trial) -> tuple[bool, float]:
    assert trial.reading is not None
    return (trial.reading.source == "measured", trial.images_per_second or 0.0)


def _needed_and_slowness(trial: Trial) -> tuple[int, float]:
    assert trial.reading is not None and trial.reading.safe_bytes is not None
    return (trial.reading.safe_bytes, -(trial.images_per_second or 0.0))


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (memory, speed) points that no other beats in both, by memory."""
    kept: list[tuple[float, float]] = []
    for memory, speed in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or speed > kept[-1][1]:
            kept.append((memory, speed))
    return kept
