"""From trials to a profile: chosen, verified, and the next best where that does not go through."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version

from bench.card.detect import CardFacts
from bench.probe.choose import choose
from bench.probe.probe_plan import ProbePlan
from bench.trials.trial import Predicted, Trial
from bench.verify.verify import Prove, prove_in_child, verify, with_verification
from distill.base.files import written_name
from distill.device.fingerprint import step_digest
from distill.spec.candidate import Candidate, StageName
from distill.spec.profile import Choice, Fingerprint, Profile, RecipeMark
from distill.spec.stage_time import stage_time

VERIFIED_CHOICES = 3
"""How many choices of a probe are verified, one after the other, until one holds."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """Every prediction of a probe, and every trial that it measured or skipped."""

    predicted: tuple[Trial, ...]
    measured: tuple[Trial, ...]


def make_profile(plan: ProbePlan, probed: Probed) -> Profile:
    """The profile from what was probed. Raises `NoSafeChoice` when a stage has none.

    Where there is a card only what ran on it is chosen from; a CPU's times choose nothing.
    """
    stages: list[StageName] = [stage.name for stage in plan.recipe.stage]
    trials = probed.measured if plan.device == "cuda" else probed.predicted
    chosen = choose(trials, stages, plan.budget, plan.effective_batches, plan.caching_shares)
    predicted = {
        trial.candidate: trial.reading
        for trial in probed.predicted
        if isinstance(trial.reading, Predicted)
    }
    return Profile(
        name=plan.name,
        status="predicted",
        recipe=RecipeMark(name=plan.recipe.name, digest=plan.recipe.digest()),
        target=plan.target,
        budget=plan.budget,
        choices=tuple(_timed(plan, _choice(plan, chosen[stage], predicted)) for stage in stages),
        pins={stage: chosen[stage].pins for stage in stages},
        fingerprint=_fingerprint(plan),
        evidence=(written_name(plan.journal),),
    )


def verified_profile(
    plan: ProbePlan,
    probed: Probed,
    card: CardFacts,
    tell: Callable[[str], None],
    prove: Prove = prove_in_child,
) -> tuple[Probed, Profile]:
    """Verify the choice; what does not go through longer is out, and the next best is tried.

    After `VERIFIED_CHOICES` rounds the profile stays `predicted`, with its failed proofs.
    """
    for left in reversed(range(VERIFIED_CHOICES)):
        profile = make_profile(plan, probed)
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


def _choice(plan: ProbePlan, trial: Trial, predicted: dict[Candidate, Predicted]) -> Choice:
    """The chosen trial, with what only its prediction knows: owners and evaluation batch."""
    reading, candidate = trial.reading, trial.candidate
    cached = candidate.teacher_logits == "cached"
    assert reading is not None and reading.reserved_bytes is not None
    return Choice(
        stage=candidate.stage,
        student=candidate.student.name,
        teacher=None if candidate.teacher is None else candidate.teacher.name,
        candidate=replace(candidate, evaluation_batch=predicted[candidate].evaluation_batch),
        peak_reserved_bytes=reading.reserved_bytes,
        breakdown=predicted[candidate].breakdown,
        cap_needed_bytes=predicted[candidate].cap_needed_bytes,
        images_per_second=trial.images_per_second,
        source=reading.source,
        timing=trial.timing,
        predicted_timing=predicted[candidate].timing,
        teacher_views=plan.cached_views[candidate.stage] if cached else None,
        caching=reading.caching,
    )


def _timed(plan: ProbePlan, choice: Choice) -> Choice:
    """The choice with the time of its whole stage, where its rate is known."""
    epochs = plan.recipe.training_of(choice.stage).epochs
    time = stage_time(choice, epochs, plan.recipe.dataset_info())
    return choice if time is None else choice.model_copy(update={"stage_seconds": time.seconds})


def _fingerprint(plan: ProbePlan) -> Fingerprint:
    torch, timm = version("torch"), version("timm")
    if plan.card is None or plan.device != "cuda":
        return Fingerprint(torch=torch, timm=timm)
    return Fingerprint(
        torch=torch,
        timm=timm,
        card=plan.card.name,
        card_total_bytes=plan.card.total_bytes,
        compute_capability=plan.card.compute_capability,
        driver=plan.card.driver,
        step=step_digest(),
    )
