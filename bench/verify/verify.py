"""Verification, in both directions: the choice goes through under its cap, and not below it.

For each stage a fresh process trains the chosen configuration under the profile's cap, and a
second one goes on from its checkpoint; both must end without a retry and within the limit. Then
the control: a few MiB below the predicted peak it must run out of memory or retry, else the
prediction was only an upper bound. What runs a child is injected; nothing here touches CUDA.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.card.detect import CardFacts, wanted_card
from bench.card.targets import is_native, target_like
from bench.measure.isolate import Ended, outcome_of, run_document, spawned
from bench.measure.jobs import job_document
from bench.verify.proofs import Limits, ProofJob, ProofResult, fails, passes, stage_line
from distill.base.errors import ProfileMismatch, RunFailed
from distill.base.files import check_output
from distill.base.scratch import scratch_folder
from distill.base.units import MIB, mib
from distill.device.fingerprint import step_digest
from distill.spec.candidate import StageName
from distill.spec.pins import pins_for
from distill.spec.profile import Choice, Fingerprint, Profile, Target, read_profile, write_profile
from distill.spec.proof_values import StageProof, Verification

BELOW_BYTES = 4 * MIB
"""How far below the predicted peak, or the smallest cap that would do, the control's cap is."""

PROOF_CHILD = "bench.verify.proof_child"
SLACK_SECONDS = 300.0

Prove = Callable[[ProofJob], ProofResult]
"""Runs a job in a fresh process; what became of it, a crash or a timeout included."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Length of the proofs: each trains until so many seconds or updates are reached."""

    seconds: float = 60.0
    updates: int = 200
    resumed_updates: int = 5
    control_updates: int = 3


def prove_in_child(job: ProofJob, at_most_seconds: float | None = None) -> ProofResult:
    """Run the job in a fresh process, for no longer than `at_most_seconds` in all."""
    limit = job.seconds + SLACK_SECONDS
    if at_most_seconds is not None:
        limit = max(1.0, min(limit, at_most_seconds))
    ended, document = run_document(job_document(job), spawned(PROOF_CHILD), limit)
    return _result(ended, document, limit)


def _result(ended: Ended, document: object, limit: float) -> ProofResult:
    if ended.status == 0:
        try:
            return TypeAdapter(ProofResult).validate_python(document)
        except ValidationError:
            return ProofResult(outcome="crash", error="the child left no readable result")
    outcome, _, error = outcome_of(ended, document, limit)
    return ProofResult(outcome=outcome, error=error)


def verify_file(path: Path, tell: Callable[[str], None]) -> bool:
    """Prove the profile in a file on the card that is here and write its proofs into it.

    Returns whether every proof ended as it should. Raises `NoDeviceError` without a card.
    """
    profile = read_profile(path)
    check_output(path)
    card = wanted_card("cuda")
    assert card is not None
    verification = verify(profile, card, tell=tell)
    profile = with_verification(profile, verification, card)
    write_profile(path, profile)
    tell(f"Wrote {path} ({profile.status}, cap {verification.cap})")
    return verification.passed


def verify(
    profile: Profile,
    card: CardFacts,
    prove: Prove = prove_in_child,
    *,
    effort: Effort | None = None,
    device: str = "cuda",
    tell: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Prove every choice of the profile on the card that is here.

    Raises `ProfileMismatch` when the card can't hold the profile's limit or needs other pins.
    """
    check_card(profile, card)
    peaks = predicted_peaks(profile, card)
    native = is_native(card, profile.budget.nominal_gib)
    limits = Limits(
        reserved_bytes=profile.budget.limit_bytes,
        outside_bytes=card.total_bytes - profile.budget.limit_bytes if native else None,
    )
    stages = []
    for choice in profile.choices:
        peak = peaks[choice.stage]
        stage = _prove_stage(profile, choice, peak, limits, prove, effort or Effort(), device)
        tell(stage_line(stage))
        stages.append(stage)
    return Verification(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        card=card.name,
        driver=card.driver,
        torch=version("torch"),
        cap="native" if native else f"enforced on {card.name}",
        stages=tuple(stages),
    )


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Prediction for a choice: its reserved bytes, and the smallest cap that would do.

    PyTorch asks for a whole segment below the cap and may then map fewer pages or, of those, more:
    either number can be the smaller one.
    """

    reserved_bytes: int
    cap_needed_bytes: int

    @property
    def control_cap_bytes(self) -> int:
        """A cap under which it must run out of memory or retry."""
        return min(self.reserved_bytes, self.cap_needed_bytes) - BELOW_BYTES


def predicted_peaks(profile: Profile, card: CardFacts) -> dict[StageName, Peak]:
    """The predicted need of each choice on the card that is here.

    What kernels allocate depends on the card: for another one than the profile's is predicted
    anew, in processes of its own.
    """
    here, made_for = target_like(card), profile.target
    caps_are_known = all(choice.cap_needed_bytes is not None for choice in profile.choices)
    if _decides(here) == _decides(made_for) and caps_are_known:
        return {
            choice.stage: Peak(
                reserved_bytes=sum(choice.breakdown.values()),
                cap_needed_bytes=choice.cap_needed_bytes or 0,
            )
            for choice in profile.choices
        }
    # loads torch, which is not needed on the card that the profile was made for
    from bench.simulate.families import FamilyJob, predict_cells, predict_families

    jobs = [
        FamilyJob(
            cells=(choice.candidate,),
            effective_batch=choice.candidate.effective_batch,
            target=here,
            allocator=profile.allocator,
            limit_bytes=profile.budget.limit_bytes,
        )
        for choice in profile.choices
    ]
    found = [prediction for some in predict_families(jobs, predict_cells) for prediction in some]
    return {
        prediction.candidate.stage: Peak(
            reserved_bytes=prediction.reserved, cap_needed_bytes=prediction.cap_needed
        )
        for prediction in found
    }


def _decides(target: Target) -> tuple[object, ...]:
    """Properties of a card that decide how many bytes a run takes on it."""
    return (
        target.compute_capability,
        target.multiprocessors,
        target.threads_per_multiprocessor,
        target.total_bytes,
    )


def check_card(profile: Profile, card: CardFacts) -> None:
    """Refuse a card that is too small or too full for the limit, or that takes other kernels."""
    needed = profile.budget.limit_bytes + card.context_bytes
    if card.total_bytes < needed:
        raise ProfileMismatch(
            f"{card.name} has {mib(card.total_bytes)} MiB; profile {profile.name} needs "
            f"{mib(needed)}, its CUDA context included. Make one for this card: bench probe."
        )
    if card.free_bytes < profile.budget.limit_bytes:
        raise RunFailed(
            f"{card.name} has {mib(card.free_bytes)} MiB free now, the profile's limit is "
            f"{mib(profile.budget.limit_bytes)}. End what else uses it: nvidia-smi lists it."
        )
    for choice in profile.choices:
        pins = pins_for(
            choice.candidate.precision,
            card.compute_capability,
            deterministic=choice.candidate.deterministic,
            allocator=profile.allocator,
        )
        if pins != profile.pins[choice.stage]:
            raise ProfileMismatch(
                f"{card.name} takes other kernels for stage {choice.stage} than profile "
                f"{profile.name} was made for. Make one for this card: bench probe."
            )


def with_verification(profile: Profile, verification: Verification, card: CardFacts) -> Profile:
    """The profile with its proofs; `verified`, and bound to this machine, only if all passed."""
    here = Fingerprint(
        torch=version("torch"),
        timm=version("timm"),
        card=card.name,
        card_total_bytes=card.total_bytes,
        compute_capability=card.compute_capability,
        driver=card.driver,
        step=step_digest(),
    )
    return profile.model_copy(
        update={
            "status": "verified" if verification.passed else "predicted",
            "verification": verification,
            "fingerprint": here if verification.passed else profile.fingerprint,
        }
    )


def _prove_stage(
    profile: Profile,
    choice: Choice,
    predicted: Peak,
    limits: Limits,
    prove: Prove,
    effort: Effort,
    device: str,
) -> StageProof:
    """Both directions for one choice; what can't follow a failure is left out."""
    job = ProofJob(
        candidate=choice.candidate,
        pins=profile.pins[choice.stage],
        device=device,
        cap_bytes=limits.reserved_bytes,
        seconds=effort.seconds,
        updates=effort.updates,
    )
    resumed = control = None
    with scratch_folder("bench-verify") as folder:
        kept = replace(job, checkpoint=str(folder))
        trained = passes(kept, prove(kept), limits)
        if trained.passed:
            again = replace(kept, resume=True, updates=effort.resumed_updates)
            resumed = passes(again, prove(again), limits)
    if resumed is not None and resumed.passed:
        below = replace(job, cap_bytes=predicted.control_cap_bytes, updates=effort.control_updates)
        control = fails(below, prove(below))
    return StageProof(
        stage=choice.stage,
        predicted_reserved_bytes=predicted.reserved_bytes,
        trained=trained,
        resumed=resumed,
        control=control,
    )
