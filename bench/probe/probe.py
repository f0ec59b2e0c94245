"""The probe: every cell predicted, what is worth it measured, a profile chosen from both.

Joins `grid`, `predict`, `measure` and `choose`. Every trial is in the journal before the next
one begins, and what is there is not done again.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version

from bench.card.detect import CardFacts
from bench.probe.choose import choose
from bench.probe.grid import effective_batches
from bench.probe.measure_grid import measure_grid, measured_conditions
from bench.probe.predict_grid import predict_grid, predicted_conditions
from bench.probe.probe_plan import Request
from bench.trials import Journal, Reading, Trial
from bench.verify.verify import Prove, prove_in_child, verify, with_verification
from distill.base.signals import StopRequest
from distill.device.fingerprint import step_digest
from distill.spec.candidate import Candidate, StageName
from distill.spec.profile import Budget, Choice, Fingerprint, Profile, RecipeMark

VERIFIED_CHOICES = 3
"""How many choices of a probe are verified, one after the other, until one holds."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What came of it: the budget, every prediction, and every measured or skipped trial."""

    budget: Budget
    predicted: tuple[Trial, ...]
    measured: tuple[Trial, ...]


def probe(request: Request, stop: StopRequest) -> Probed:
    """Predict the grid, then measure. Raises `Interrupted` when asked to stop, trials kept."""
    journal = Journal(request.journal, force=request.force)
    _say_what_is_left_out(request, journal)
    predicted = predict_grid(request, journal, stop)
    measured: list[Trial] = []
    if request.device != "predict":
        measured = measure_grid(request, journal, predicted, stop)
    return Probed(budget=request.budget, predicted=tuple(predicted), measured=tuple(measured))


def _say_what_is_left_out(request: Request, journal: Journal) -> None:
    if journal.torn:
        print(f"  {journal.torn} torn line(s) of {journal.path} left out", file=sys.stderr)
    here = [predicted_conditions(request), measured_conditions(request)]
    elsewhere = journal.elsewhere(here)
    if elsewhere:
        print(
            f"  {elsewhere} line(s) of {journal.path} count as not done: they are of another "
            "card, driver, cap, version or source",
            file=sys.stderr,
        )


def make_profile(request: Request, probed: Probed) -> Profile:
    """The profile from what was probed. Raises `NoSafeChoice` when a stage has none.

    Where there is a card only what ran on it is chosen from; a CPU's times choose nothing.
    """
    stages: list[StageName] = [stage.name for stage in request.recipe.stage]
    trials = probed.measured if request.device == "cuda" else probed.predicted
    chosen = choose(trials, stages, probed.budget, effective_batches(request.recipe))
    predicted = {
        trial.candidate: trial.reading for trial in probed.predicted if trial.reading is not None
    }
    return Profile(
        name=request.name,
        status="predicted",
        recipe=RecipeMark(name=request.recipe.name, digest=request.recipe.digest()),
        target=request.target,
        budget=probed.budget,
        choices=tuple(_choice(chosen[stage], predicted) for stage in stages),
        pins={stage: chosen[stage].pins for stage in stages},
        fingerprint=_fingerprint(request),
        evidence=(request.journal.as_posix(),),
    )


def settle(
    request: Request,
    probed: Probed,
    card: CardFacts,
    tell: Callable[[str], None],
    prove: Prove = prove_in_child,
) -> tuple[Probed, Profile]:
    """Verify the choice; what does not go through longer is out, and the next best is tried.

    After `VERIFIED_CHOICES` rounds the profile stays `predicted`, with its failed proofs.
    """
    for left in reversed(range(VERIFIED_CHOICES)):
        profile = make_profile(request, probed)
        verification = verify(profile, card, prove, tell=tell)
        profile = with_verification(profile, verification, card)
        failed = {s.stage: s for s in verification.stages if not s.trained.passed}
        if not failed or not left:
            break
        chosen = {choice.stage: choice.candidate for choice in profile.choices}
        out = {replace(chosen[stage], evaluation_batch=None) for stage in failed}
        probed = replace(probed, measured=tuple(_without(t, out) for t in probed.measured))
    return probed, profile


def _without(trial: Trial, out: set[Candidate]) -> Trial:
    if trial.candidate not in out:
        return trial
    return replace(trial, outcome="thrash", error="did not go through when it ran longer")


def _choice(trial: Trial, predicted: dict[Candidate, Reading]) -> Choice:
    """The chosen trial, with what only its prediction knows: owners and evaluation batch."""
    reading, candidate = trial.reading, trial.candidate
    assert reading is not None and reading.reserved_bytes is not None
    return Choice(
        stage=candidate.stage,
        student=candidate.student.name,
        teacher=None if candidate.teacher is None else candidate.teacher.name,
        candidate=replace(candidate, evaluation_batch=predicted[candidate].evaluation_batch),
        peak_reserved_bytes=reading.reserved_bytes,
        breakdown=predicted[candidate].breakdown or {},
        cap_needed_bytes=predicted[candidate].cap_needed_bytes,
        images_per_second=trial.images_per_second,
        source=reading.source,
    )


def _fingerprint(request: Request) -> Fingerprint:
    torch, timm = version("torch"), version("timm")
    if request.card is None or request.device != "cuda":
        return Fingerprint(torch=torch, timm=timm)
    return Fingerprint(
        torch=torch,
        timm=timm,
        card=request.card.name,
        card_total_bytes=request.card.total_bytes,
        compute_capability=request.card.compute_capability,
        driver=request.card.driver,
        step=step_digest(),
    )
