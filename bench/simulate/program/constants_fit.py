"""The two constants of a machine, found from updates that were timed on it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log
from statistics import fmean

from bench.simulate.program.program import Program
from bench.simulate.program.step_time import predicted_timing
from distill.spec.calibration import ASSUMED, Calibration
from distill.spec.candidate import Candidate
from distill.spec.profile import Target
from distill.spec.step_times import PredictedTiming

ROUNDS, STEPS = 4, 7
"""Of the search: each round looks closer around the best of the one before."""

WIDEST = 6.0
"""How many times as large or as small as assumed a constant may be, in the first round."""

TRUST = 0.01
"""The weight of what is assumed: it decides where updates tell nothing of a constant."""


@dataclass(frozen=True, kw_only=True)
class ObservedUpdate:
    """An update that took so long on a card, and the program of its micro-batch."""

    program: Program
    target: Target
    candidate: Candidate
    seconds: float

    def predicted(self, calibration: Calibration) -> PredictedTiming:
        """Its time by a machine's constants."""
        there = self.target.model_copy(update={"calibration": calibration})
        return predicted_timing(self.program, there, self.candidate)

    def error(self, calibration: Calibration) -> float:
        """(predicted − observed) / observed."""
        return self.predicted(calibration).seconds / self.seconds - 1


def fitted(observed: Sequence[ObservedUpdate], machine: str) -> Calibration:
    """The constants under which the mean error, as a logarithm, is least.

    A constant that no update tells of stays as it is assumed.
    """

    def badness(pair: tuple[float, float]) -> float:
        there = _constants(pair, machine)
        away = sum(abs(log(one / usual)) for one, usual in zip(pair, assumed, strict=True))
        return fmean(abs(log(1 + one.error(there))) for one in observed) + TRUST * away

    assumed = best = (ASSUMED.product_efficiency, ASSUMED.launch_seconds)
    spread = log(WIDEST)
    for _ in range(ROUNDS):
        factors = [exp(spread * (2 * step / (STEPS - 1) - 1)) for step in range(STEPS)]
        tried = [(best[0] * one, best[1] * other) for one, other in product(factors, factors)]
        best = min(tried, key=badness)
        spread /= (STEPS - 1) / 2
    return _constants(best, machine)


def _constants(pair: tuple[float, float], machine: str) -> Calibration:
    return Calibration(
        product_efficiency=pair[0], launch_seconds=pair[1], source="measured", machine=machine
    )
