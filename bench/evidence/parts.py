"""The parts of `bench evidence` that run children: recordings, verification, throughput.

Each file is written anew after every child, so that what was done is kept whatever comes next.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.card.detect import CardFacts
from bench.card.targets import target_like, target_named
from bench.evidence.plan import OWN, Cell, Contestant
from bench.evidence.recording import Golden, Recording, write_golden
from bench.evidence.rehearsal import rehearse
from bench.evidence.session import Session
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import (
    Runner,
    judge,
    last_words,
    run_document,
    run_trial,
    spawned,
)
from bench.measure.worker import Job, job_document
from bench.trials import Conditions, Trial, measurement_digest, prediction_digest
from bench.verify.verify import with_verification
from distill.base.errors import RunFailed
from distill.base.files import write_json
from distill.spec.candidate import Allocator
from distill.spec.pins import default_allocator
from distill.spec.profile import Choice, Profile, Verification, read_profile, write_profile

RECORDER = (sys.executable, "-m", "bench.evidence.recorder")
PLAIN = (sys.executable, "-m", "bench.evidence.plain_loop")
AT_ONCE = 4
"""Recordings side by side where the card is large: peaks are a process's own, times are not."""

ALLOCATOR: Allocator = default_allocator()
CHILD_SECONDS = 90.0
ROUNDS = 2
MAX_FILE_BYTES = 16 * 2**20


def record_all(session: Session, cells: Sequence[Cell], name: str, *, history: bool) -> str:
    """Record each cell in a child; the file is written anew after every one."""
    path, found, failed = session.request.out / name, [], []
    for cell, recording in _recordings(session, cells):
        if isinstance(recording, str):
            failed.append(f"{cell.candidate.student.name}: {recording}")
            continue
        found.append(recording if history else recording.model_copy(update={"history": None}))
        write_golden(path, _golden(session, found))
    if not found:
        raise RunFailed(f"None could be recorded. {'; '.join(failed[:3])}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RunFailed(f"{path.name} is larger than {MAX_FILE_BYTES // 2**20} MiB.")
    words = "; ".join([f"{len(found)} of {len(cells)} recorded", *failed])
    if failed:
        raise RunFailed(f"{words}.")
    return words


def _recordings(session: Session, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Recording | str]]:
    """Each cell with its recording, or with why there is none."""
    with ThreadPoolExecutor(AT_ONCE if session.is_large else 1) as pool:
        yield from pool.map(lambda cell: (cell, _recording(session, cell)), cells)


def _recording(session: Session, cell: Cell) -> Recording | str:
    if session.left() < 10 or session.stop.number is not None:
        return "no time left"
    job = Job(
        candidate=cell.candidate,
        pins=session.pins(cell.candidate, cell.allocator),
        device=session.device,
        cap_bytes=session.cap_bytes,
    )
    limit = min(CHILD_SECONDS, session.left())
    ended, document = run_document(job_document(job), spawned(RECORDER), limit)
    if document is None:
        words = last_words(ended.stderr) if (ended.status or 0) > 0 else ""
        return words or str(judge(ended, None, limit)[2])
    try:
        return Recording.model_validate(document)
    except ValidationError as error:
        return f"no recording ({error.error_count()} fields are wrong)"


def _golden(session: Session, recordings: Iterable[Recording]) -> Golden:
    card = session.request.card
    libraries = _libraries()
    return Golden(
        command=session.request.command,
        target=target_named("rtx4050") if card is None else target_like(card),
        driver=None if card is None else card.driver,
        torch=version("torch"),
        timm=version("timm"),
        cuda=libraries["cuda"],
        cudnn=libraries["cudnn"],
        code=prediction_digest(),
        recordings=tuple(recordings),
    )


def _libraries() -> dict[str, Any]:
    """CUDA and cuDNN of this torch, told without touching the device."""
    import torch

    cudnn = getattr(torch._C, "_cudnn", None)
    return {
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else cudnn.getVersionInt(),
    }


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


def time_contestants(session: Session) -> str:
    """Every contestant once, then, as time allows, again: what the machine does hits them all."""
    plan, found = session.request.plan, []
    card = session.request.card
    conditions = Conditions(
        card="cpu" if card is None else card.name,
        driver=None if card is None else card.driver,
        cap_bytes=session.cap_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=measurement_digest(),
    )
    rounds = 1 if card is None else ROUNDS
    wanted = [(r, contestant) for r in range(rounds) for contestant in plan.contestants]
    start_seconds = max(1.0, session.left())
    with ForkServer(allocator=ALLOCATOR, start_seconds=start_seconds) as server:
        for number, contestant in wanted:
            if session.left() < 15 or session.stop.number is not None:
                break
            runner = spawned(PLAIN) if contestant.by == "plain loop" else server
            trial = _timed(session, contestant, conditions, runner)
            found.append(_timed_document(number, contestant, trial))
            document = {"schema_version": 1, "trials": found}
            write_json(session.request.out / "throughput.json", document)
    bad = [f"{one['name']}: {one['outcome']}" for one in found if one["outcome"] != "ok"]
    words = "; ".join([f"{len(found) - len(bad)} of {len(wanted)} timed", *bad])
    if len(found) < len(plan.contestants) or any(_is_failure(one) for one in found):
        raise RunFailed(f"{words}.")
    return words


def _is_failure(timed: dict[str, Any]) -> bool:
    """Not that memory ends for another configuration than the profile's: that is a finding."""
    return timed["outcome"] not in (("ok",) if timed["name"] == OWN else ("ok", "oom", "thrash"))


def _timed(
    session: Session, contestant: Contestant, conditions: Conditions, runner: Runner
) -> Trial:
    job = Job(
        candidate=contestant.candidate,
        pins=session.pins(contestant.candidate, ALLOCATOR),
        device=session.device,
        cap_bytes=session.cap_bytes,
        cap="native",
        warmup_steps=3 if session.device == "cuda" else 1,
        timed_steps=15 if session.device == "cuda" else 3,
    )
    limit = min(CHILD_SECONDS, session.left())
    return run_trial(job, conditions, runner=runner, time_limit_seconds=limit)


def _timed_document(number: int, contestant: Contestant, trial: Trial) -> dict[str, Any]:
    return {
        "round": number,
        "name": contestant.name,
        "by": contestant.by,
        "images_per_second": trial.images_per_second,
        **asdict(trial),
        "pins": trial.pins.model_dump(mode="json") if contestant.by == "step" else None,
    }
