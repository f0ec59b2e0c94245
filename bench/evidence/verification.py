"""The verification of `bench evidence`: every stage of the profile proven in both directions."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.card.detect import CardFacts
from bench.evidence.rehearsal import rehearse
from bench.evidence.session import ALLOCATOR, Session
from bench.measure.isolate import last_words
from bench.verify.verify import with_verification
from distill.base.errors import RunFailed
from distill.base.files import write_json
from distill.spec.profile import Choice, Profile, Verification, read_profile, write_profile


def verify_profile(session: Session) -> str:
    """`bench verify` of every stage: both directions, under an enforced cap.

    Side by side where the card is large. A stage that can't be verified does not keep the others
    from it.
    """
    request = session.request
    if request.card is None:
        return _rehearsal(session)
    profile = read_profile(request.profile)
    found: list[Verification] = []
    failed: list[str] = []
    for ended in _verifications(session, profile):
        if isinstance(ended, str):
            failed.append(ended)
            continue
        found.append(ended)
        _write_verifications(session, found)
        whole = _joined(profile, found, request.card)
        write_profile(request.out / f"{request.profile.stem}-verification.profile.json", whole)
    if failed:
        raise RunFailed(" ".join(failed))
    if whole.status != "verified":
        raise RunFailed("The profile is not safe here; verification.json says why.")
    return f"verified in both directions, cap {found[-1].cap}"


def _verifications(session: Session, profile: Profile) -> Iterator[Verification | str]:
    """Each stage's, or why there is none."""

    def one(choice: Choice) -> Verification | str:
        only = {"choices": (choice,), "verification": None}
        try:
            return _verify_stage(session, profile.model_copy(update=only))
        except RunFailed as error:
            return str(error)

    with ThreadPoolExecutor(len(profile.choices) if session.is_large else 1) as pool:
        yield from pool.map(one, profile.choices)


def _rehearsal(session: Session) -> str:
    """Both directions for a small stage on the CPU; only the card's answers are made up."""
    candidate = session.request.plan.contestants[0].candidate
    verification = rehearse(
        candidate, ALLOCATOR, lambda line: print(f"    {line}", file=sys.stderr)
    )
    _write_verifications(session, [verification])
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
        command = [sys.executable, "-m", "bench", "verify", str(path)]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=max(1, session.left())
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"There was no time to verify stage {stage}.") from error
        verification = read_profile(path).verification
    if verification is None:
        last = last_words(child.stderr) or f"exit status {child.returncode}"
        raise RunFailed(f"Stage {stage} could not be verified: {last}")
    return verification
