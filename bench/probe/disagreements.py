"""Disagreements of prediction and measurement, with both sides. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.trials.trial import Measured, Outcome, Predicted, Trial
from distill.base.units import mib
from distill.spec.candidate import Candidate

TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One disagreement, with who owns what on both sides.

    `breakdown` is the prediction's: who owns each reserved byte at the peak. `held` is what the
    trial could tell: tensors counted one by one, activations as backward begins, gradients as the
    update begins. `error` is (predicted − measured) / measured of reserved bytes, `None` where the
    trial did not come to a peak.
    """

    candidate: Candidate
    outcome: Outcome
    predicted_bytes: int
    measured_bytes: int | None
    error: float | None
    breakdown: dict[str, int]
    held: dict[str, int]

    @property
    def words(self) -> str:
        """Both sides in one line."""
        there = f"{self.candidate.stage} {self.candidate.label} {self.candidate.micro_batch}"
        predicted = f"{mib(self.predicted_bytes)} MiB predicted"
        if self.measured_bytes is None or self.error is None:
            return f"{there}: {predicted}, but {self.outcome}"
        return f"{there}: {predicted}, {mib(self.measured_bytes)} measured ({self.error:+.1%})"


def disagreements(predicted: Iterable[Trial], measured: Iterable[Trial]) -> list[Disagreement]:
    """Every measured trial whose peak or outcome is not the predicted one, within 1 %."""
    by_candidate = {trial.candidate: trial for trial in predicted}
    found = []
    for trial in measured:
        before = by_candidate.get(trial.candidate)
        finding = None if before is None else _disagreement(before, trial)
        if finding is not None:
            found.append(finding)
    return found


def _disagreement(predicted: Trial, measured: Trial) -> Disagreement | None:
    foreseen, reading = predicted.reading, measured.reading
    if not isinstance(foreseen, Predicted) or measured.outcome == "skipped":
        return None
    own = reading if isinstance(reading, Measured) else Measured()
    peak = own.reserved_bytes
    error = None if peak is None else (foreseen.reserved_bytes - peak) / peak
    failed = measured.outcome in ("oom", "thrash") and predicted.outcome == "ok"
    if not failed and (error is None or abs(error) <= TOLERANCE):
        return None
    return Disagreement(
        candidate=measured.candidate,
        outcome=measured.outcome,
        predicted_bytes=foreseen.reserved_bytes,
        measured_bytes=peak,
        error=error,
        breakdown=foreseen.breakdown,
        held=own.held or {},
    )
