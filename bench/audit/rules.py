"""Each claimed figure against what is predicted for it. Pure but for the predictor it is given.

A figure holds within ±10 %. What concerns time or accuracy can't be checked without a run,
unless arithmetic alone decides: no run can be faster than the card's own peak rates allow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.audit.measured import Configuration, RecordedPeak
from bench.predict.claims import Claim
from bench.predict.question import Question, candidate_for
from bench.simulate.prediction import Prediction
from distill.base.units import GIB, MIB
from distill.spec.candidate import Candidate, Checkpointing, Precision, StageName
from distill.spec.recipe import Recipe

HOLDS_WITHIN = 0.10
EPOCHS = 100
RANGE_BATCHES = (4, 8, 16, 32, 64)

PEAKS: Mapping[str, Configuration] = {
    "peak.vit_base.bs8": ("teacher", 8, "fp16", 1),
    "peak.vit_small.bs16": ("assistant", 16, "fp16", 1),
    "peak.vit_tiny.bs32": ("student", 32, "fp16", 1),
    "peak.vit_base.bs8.plain": ("teacher", 8, "fp32", 0),
}
"""Stage, batch, precision and checkpointing that a claimed peak is of."""

TIMED: Mapping[str, tuple[StageName, int]] = {
    "time.teacher": ("teacher", 8),
    "time.assistant": ("assistant", 16),
    "time.student": ("student", 32),
}
"""Stage and batch that claimed hours are of."""

NEEDS_A_RUN = "not checkable without a run"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim and what there is to hold against it, in the claim's unit.

    `ratio` is claimed over predicted; `note` says what the number is, or why there is none;
    `evidence` names the card and the file of what was measured.
    """

    id: str
    subject: str
    unit: str
    claimed: float | tuple[float, float]
    predicted: float | None
    measured: float | None
    ratio: float | None
    verdict: str
    note: str
    evidence: str | None = None


@dataclass(frozen=True)
class Answer:
    """A rule's answer: a number, or none, and a note. `decides` is false for a mere hint."""

    predicted: float | None
    note: str
    decides: bool = True


class Auditor:
    """Answers claims with `predict`, which is asked once for each configuration."""

    def __init__(
        self,
        recipe: Recipe,
        predict: Callable[[Candidate], Prediction],
        parameters: Callable[[str, int], int],
        recorded: Mapping[Configuration, RecordedPeak],
    ) -> None:
        self.recipe = recipe
        self._predict = predict
        self._parameters = parameters
        self._recorded = recorded
        self._known: dict[Candidate, Prediction] = {}
        self.rules: Sequence[tuple[str, Callable[[Claim], Answer]]] = (
            ("params.", self._parameter_count),
            ("fp16_size.", self._half_size),
            ("peak.", self._peak),
            ("budget.", self._budget),
            ("effect.checkpointing.memory", self._checkpointing_memory),
            ("effect.checkpointing.time", self._checkpointing_time),
            ("effect.amp.memory", self._amp_memory),
            ("effect.amp.speed", self._amp_speed),
            ("time.", self._stage_hours),
            ("acc.", self._accuracy),
        )

    def find(self, claim: Claim) -> Finding:
        """The finding for one claim."""
        rule = next(rule for prefix, rule in self.rules if claim.id.startswith(prefix))
        answer = rule(claim)
        predicted = answer.predicted or 0
        peak = self._recorded.get(PEAKS[claim.id]) if claim.id in PEAKS else None
        ratio = claim.middle / predicted if predicted > 0 else None
        return Finding(
            id=claim.id,
            subject=claim.subject,
            unit=claim.unit,
            claimed=claim.value,
            predicted=answer.predicted,
            measured=None if peak is None else peak.reserved_bytes / GIB,
            ratio=ratio,
            verdict=claim_verdict(claim, answer),
            note=answer.note,
            evidence=None if peak is None else f"{peak.card}, {peak.file.as_posix()}",
        )

    # -- the rules

    def _parameter_count(self, claim: Claim) -> Answer:
        name = claim.id.removeprefix("params.")
        return Answer(float(self._parameters(name, 10)), "counted, with 10 classes")

    def _half_size(self, claim: Claim) -> Answer:
        count = self._parameters(claim.id.removeprefix("fp16_size."), 10)
        return Answer(2 * count / MIB, "2 bytes a parameter, with 10 classes")

    def _peak(self, claim: Claim) -> Answer:
        stage, batch, precision, checkpointing = PEAKS[claim.id]
        peak = self._ask(stage, batch, precision=precision, checkpointing=checkpointing).reserved
        return Answer(peak / GIB, "reserved at the peak, GiB")

    def _budget(self, claim: Claim) -> Answer:
        breakdown = self._ask("teacher", 8).breakdown
        owners = {
            "budget.weights": ("weights",),
            "budget.optimizer": ("optimizer_state",),
            "budget.activations": ("activations",),
            "budget.gradients": ("gradients",),
            "budget.forward_buffers": ("temporaries", "low_precision_weights"),
        }[claim.id]
        size = sum(breakdown[owner] for owner in owners)
        return Answer(size / MIB, f"{' and '.join(owners)} at the peak, MiB".replace("_", " "))

    def _checkpointing_memory(self, claim: Claim) -> Answer:
        return self._saving(
            lambda batch: (
                self._ask("teacher", batch, checkpointing=0),
                self._ask("teacher", batch),
            )
        )

    def _amp_memory(self, claim: Claim) -> Answer:
        return self._saving(
            lambda batch: (
                self._ask("teacher", batch, precision="fp32", checkpointing=0),
                self._ask("teacher", batch, checkpointing=0),
            )
        )

    def _checkpointing_time(self, claim: Claim) -> Answer:
        plain, checkpointed = self._ask("teacher", 8, checkpointing=0), self._ask("teacher", 8)
        slower = plain.images_per_second / checkpointed.images_per_second - 1
        return Answer(slower, f"rooflines alone: {slower:.0%} slower", decides=False)

    def _amp_speed(self, claim: Claim) -> Answer:
        full = self._ask("teacher", 8, precision="fp32", checkpointing=0)
        half = self._ask("teacher", 8, checkpointing=0)
        faster = half.images_per_second / full.images_per_second
        return Answer(faster, f"rooflines alone: {faster:.1f} times as fast", decides=False)

    def _stage_hours(self, claim: Claim) -> Answer:
        """The least hours that a stage takes on the target, whatever the program."""
        stage, batch = TIMED[claim.id]
        images = EPOCHS * self.recipe.dataset_info().train_images
        hours = images / self._ask(stage, batch).images_per_second / 3600
        return Answer(
            hours, f"at least {hours:.1f} h by the roofline", decides=hours > claim.middle
        )

    def _accuracy(self, claim: Claim) -> Answer:
        return Answer(None, "accuracy has to be trained for")

    # -- asking

    def _ask(
        self,
        stage: StageName,
        batch: int,
        *,
        precision: Precision = "fp16",
        checkpointing: Checkpointing = 1,
    ) -> Prediction:
        question = Question(
            stage=stage,
            batch_size=batch,
            precision=precision,
            checkpointing=checkpointing,
        )
        candidate = replace(candidate_for(self.recipe, question), clip_norm=False)
        if candidate not in self._known:
            self._known[candidate] = self._predict(candidate)
        return self._known[candidate]

    def _saving(self, pair: Callable[[int], tuple[Prediction, Prediction]]) -> Answer:
        """The share of memory saved at batch 8, and its range over other batches."""
        shares = {}
        for batch in RANGE_BATCHES:
            before, after = pair(batch)
            shares[batch] = 1 - after.reserved / before.reserved
        low, high = min(shares.values()), max(shares.values())
        note = (
            f"batch 8; {low:.0%} to {high:.0%} over batches {RANGE_BATCHES[0]}–{RANGE_BATCHES[-1]}"
        )
        return Answer(shares[8], note)


def claim_verdict(claim: Claim, answer: Answer) -> str:
    """holds · too high by × · too low by × · too high: nothing · not checkable without a run."""
    if answer.predicted is None or not answer.decides:
        return NEEDS_A_RUN
    if answer.predicted <= 0:
        return "too high: nothing of it is predicted"
    low, high = claim.value if isinstance(claim.value, tuple) else (claim.value, claim.value)
    if low / answer.predicted <= 1 + HOLDS_WITHIN and high / answer.predicted >= 1 - HOLDS_WITHIN:
        return "holds"
    if low > answer.predicted:
        return f"too high by {low / answer.predicted:.1f}×"
    return f"too low by {answer.predicted / high:.1f}×"
