"""A dry run's verification: the proofs of one small stage on the CPU, on a card that is imagined.

Children, training, checkpoint and their going on are real; what a card would say of memory is what
was predicted of it, the control's end included. Evidence for nothing: the card's name says so.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version

from bench.card.budget import assumed_budget
from bench.card.detect import CardFacts
from bench.card.targets import target_named
from bench.simulate.prediction import Prediction
from bench.simulate.predictor import Predictor
from bench.verify.proofs import ProofJob, ProofResult
from bench.verify.verify import Effort, Prove, prove_in_child, verify
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Choice, Fingerprint, Profile, RecipeMark
from distill.spec.proof_values import Verification

NOMINAL_GIB = 6.0
LARGER = 4
"""The card is this many times as large as the one that it imitates."""

EFFORT = Effort(seconds=30, updates=2, resumed_updates=1, control_updates=1)


def rehearse(
    candidate: Candidate,
    allocator: Allocator,
    tell: Callable[[str], None],
    left: Callable[[], float],
) -> Verification:
    """Both directions for `candidate`, on the CPU, while there are seconds `left`."""
    prediction = Predictor(target_named("rtx4050"), allocator).predict(candidate)
    profile = profile_of(prediction)
    prove = partial(_imagined, prediction, lambda job: prove_in_child(job, left()))
    return verify(profile, _card(profile), prove, effort=EFFORT, device="cpu", tell=tell)


def _imagined(prediction: Prediction, prove: Prove, job: ProofJob) -> ProofResult:
    """The real end of the job, with the memory that was predicted of it."""
    result = prove(job)
    if result.outcome != "ok" or job.cap_bytes is None:
        return result
    if job.cap_bytes < prediction.safe_bytes:
        return ProofResult(outcome="oom", error="imagined: the cap is below what was predicted")
    return replace(
        result,
        reserved_bytes=prediction.reserved,
        allocated_bytes=prediction.allocated,
        alloc_retries=0,
    )


def _card(profile: Profile) -> CardFacts:
    target, budget = profile.target, profile.budget
    total_bytes = LARGER * budget.card_total_bytes
    return CardFacts(
        name="an imagined card (dry run)",
        compute_capability=target.compute_capability,
        multiprocessors=target.multiprocessors,
        threads_per_multiprocessor=target.threads_per_multiprocessor,
        total_bytes=total_bytes,
        free_bytes=total_bytes - budget.context_bytes,
        context_bytes=budget.context_bytes,
        driver=None,
    )


def profile_of(prediction: Prediction) -> Profile:
    """A profile of one choice, for a card of 6 GiB."""
    candidate = prediction.candidate
    choice = Choice(
        stage=candidate.stage,
        student=candidate.student.title,
        teacher=None if candidate.teacher is None else candidate.teacher.title,
        candidate=candidate,
        peak_reserved_bytes=prediction.reserved,
        breakdown=prediction.breakdown,
        cap_needed_bytes=prediction.cap_needed,
        images_per_second=None,
        source="predicted",
    )
    return Profile(
        name="dry-run",
        status="predicted",
        recipe=RecipeMark(name="dry-run", digest=""),
        target=prediction.target,
        budget=assumed_budget(NOMINAL_GIB),
        choices=(choice,),
        pins={candidate.stage: prediction.pins},
        fingerprint=Fingerprint(torch=version("torch"), timm=version("timm")),
        evidence=(),
    )
