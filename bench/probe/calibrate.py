"""The two constants of a machine from what a probe timed on it, for the times that it predicts.

Beside the trials of the grid one small update is timed, which nothing but launches bounds. A child
(`fit_child`) traces and fits, so that this process loads no torch.
"""

from dataclasses import asdict, dataclass, replace

from bench.card.cards import has_bf16
from bench.measure.isolate import last_words, run_document, spawned
from bench.probe.make_profile import Probed
from bench.probe.probe_plan import ProbePlan
from bench.trials.trial import Predicted, Trial
from distill.base.console import say
from distill.spec.calibration import Calibration
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Target
from distill.spec.recipe import load_recipe
from distill.spec.step_times import PredictedTiming, Seconds
from distill.spec.validated import document_as

FIT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class TimedCandidate:
    """A candidate whose update took so long."""

    candidate: Candidate
    seconds: Seconds


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """Timed updates of one machine, on the card that they ran on."""

    timed: tuple[TimedCandidate, ...]
    target: Target
    allocator: Allocator
    machine: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The machine's constants, and by them the time of each timed update, in the job's order."""

    calibration: Calibration
    timings: tuple[PredictedTiming, ...]


def small_update(capability: tuple[int, int]) -> Candidate:
    """One image through ViT-Tiny: the card has next to nothing to do in each launch."""
    student = load_recipe("cifar10").candidate("student", micro_batch=1)
    return replace(
        student,
        teacher=None,
        accumulation=1,
        images_per_epoch=None,
        precision="bf16" if has_bf16(capability) else "fp16",
        implementation="fused",
    )


def calibrated(plan: ProbePlan, probed: Probed, small: Trial | None) -> tuple[ProbePlan, Probed]:
    """Plan and predictions by the machine's own constants, as far as its trials tell them.

    Where the fit fails, that is told and the assumed constants stay.
    """
    timed = [
        TimedCandidate(candidate=trial.candidate, seconds=trial.quartiles.lower_seconds)
        for trial in (*probed.measured, small)
        if trial is not None and trial.quartiles is not None
    ]
    if plan.card is None or not timed:
        return plan, probed
    fit = _fit(
        FitJob(
            timed=tuple(timed),
            target=plan.target,
            allocator=plan.allocator,
            machine=plan.card.name,
        )
    )
    if fit is None:
        return plan, probed
    by_candidate = dict(zip((one.candidate for one in timed), fit.timings, strict=True))
    target = plan.target.model_copy(update={"calibration": fit.calibration})
    predicted = tuple(_with_timing(t, by_candidate.get(t.candidate)) for t in probed.predicted)
    return replace(plan, target=target), replace(probed, predicted=predicted)


def _with_timing(trial: Trial, timing: PredictedTiming | None) -> Trial:
    if timing is None or not isinstance(trial.reading, Predicted):
        return trial
    return replace(trial, reading=replace(trial.reading, timing=timing))


def _fit(job: FitJob) -> Fit | None:
    document = asdict(job) | {"target": job.target.model_dump(mode="json")}
    ended, found = run_document(document, spawned("bench.probe.fit_child"), FIT_SECONDS)
    if ended.status != 0 or found is None:
        why = last_words(ended.stderr) or "no result"
        say(f"  the machine's constants could not be fitted ({why}); times rest on assumed ones")
        return None
    return document_as(Fit, found, "The fit of the machine's constants")
