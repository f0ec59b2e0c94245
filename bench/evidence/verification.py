"""The verification of `bench evidence`: every stage of the profile proven in both directions."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bench.card.detect import CardFacts
from bench.evidence.rehearsal import rehearse
from bench.evidence.session import ALLOCATOR, Session
from bench.measure.isolate import last_words
from bench.verify.verify import with_verification
from distill.base.children import raise_if_asked_to_stop, run_command
from distill.base.errors import RunFailed
from distill.base.files import write_json
from distill.spec.profile import Choice, Profile, read_profile, write_profile
from distill.spec.proof_values import Verification

LEAST_SECONDS = 5.0
"""No proof is begun in less."""


def verify_profile(session: Session) -> str:
    """`bench verify` of every stage: both directions, under an enforced cap.

    Side by side where the card is large. A stage that can't be verified does not keep the others
    from it.
    """
    request = session.request
    if request.card is None:
        return _rehearsal(session)
    profile = read_profile(request.profile)
    order = [choice.stage for choice in profile.choices]
    found: list[Verification] = []
    failed: list[str] = []
    for ended in _verifications(session, profile):
        if isinstance(ended, str):
            failed.append(ended)
            continue
        found.append(ended)
        found.sort(key=lambda one: order.index(one.stages[0].stage))
        session.count.done = len(found)
        _write_verifications(session, found)
        whole = _joined(profile, found, request.card)
        write_profile(request.out / f"{request.profile.stem}-verification.profile.json", whole)
    if failed:
        raise RunFailed(" ".join(failed))
    if whole.status != "verified":
        raise RunFailed("The profile is not safe here; verification.json says why.")
    return f"verified in both directions, cap {found[-1].cap}"


def _verifications(session: Session, profile: Profile) -> Iterator[Verification | str]:
    """Each stage's, or why there is none, as each of them ends."""

    def one(choice: Choice) -> Verification | str:
        only = {"choices": (choice,), "verification": None}
        try:
            return _verify_stage(session, profile.model_copy(update=only))
        except RunFailed as error:
            return str(error)

    with ThreadPoolExecutor(len(profile.choices) if session.is_large else 1) as pool:
        try:
            for ended in as_completed([pool.submit(one, choice) for choice in profile.choices]):
                yield ended.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # else a defect would wait for all


def _rehearsal(session: Session) -> str:
    """Both directions for a small stage on the CPU; only the card's answers are made up."""
    if session.left() < LEAST_SECONDS:
        raise RunFailed("There was no time to rehearse it.")
    candidate = session.request.plan.contestants[0].candidate
    verification = rehearse(
        candidate, ALLOCATOR, lambda line: print(f"    {line}", file=sys.stderr), session.left
    )
    _write_verifications(session, [verification])
    session.count.done = int(verification.passed)
    if not verification.passed:
        raise RunFailed("The rehearsal did not end as it should; verification.json says why.")
    return f"rehearsed in both directions on {verification.card}"


def _write_verifications(session: Session, found: Sequence[Verification]) -> None:
    write_json(
        session.request.out / "verification.json",
        {"schema_version": 1, "verifications": [one.model_dump(mode="json") for one in found]},
    )


def _joined(profile: Profile, found: Sequence[Verification], card: CardFacts) -> Profile:
    """The profile with the proofs so far; `predicted` as long as a stage lacks its own."""
    stages = tuple(stage for one in found for stage in one.stages)
    whole = with_verification(profile, found[-1].model_copy(update={"stages": stages}), card)
    if len(stages) == len(profile.choices):
        return whole
    return whole.model_copy(update={"status": "predicted", "fingerprint": profile.fingerprint})


def _verify_stage(session: Session, profile: Profile) -> Verification:
    """One choice in a process of its own, which can be ended when time is up."""
    stage = profile.choices[0].stage
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as folder:
        path = Path(folder, "profile.json")
        write_profile(path, profile)
        try:
            if session.left() < LEAST_SECONDS:
                raise RunFailed(f"There was no time to verify stage {stage}.")
            child = run_command(
                *("bench", "verify", str(path)),
                stderr=subprocess.PIPE,
                timeout_seconds=session.left(),
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"There was no time to verify stage {stage}.") from error
        verification = read_profile(path).verification
    if verification is None:
        raise_if_asked_to_stop(child.returncode, f"What was done is in {session.request.out}.")
        last = last_words(child.stderr) or f"exit status {child.returncode}"
        raise RunFailed(f"Stage {stage} could not be verified: {last}")
    return verification
