"""Everything that needs a GPU, in one bounded run: most valuable first, each part saved as done.

Leaves at most eight files of at most 16 MiB. A part that fails or runs out of its time says so in
`index.json` and the next one goes on. The process itself never touches CUDA; every recording and
every trial is a fresh child. A dry run walks the same way on the CPU with tiny models.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.cards import target_like, target_named
from bench.evidence_plan import Cell, Contestant, Plan
from bench.golden import Golden, Recording, write_golden
from bench.measure.card import CardFacts
from bench.measure.isolate import WORKER, judge, run_document, run_trial, spawned
from bench.measure.worker import Job, job_document
from bench.trials import Conditions, Trial, code_digest
from distill.candidate import Allocator, Candidate
from distill.errors import DistillError, RunFailed
from distill.files import write_json, write_text
from distill.nvml import read_holders, read_state
from distill.pins import Pins, pins_for
from distill.signals import StopRequest

RECORDER = (sys.executable, "-m", "bench.measure.record")
PLAIN = (sys.executable, "-m", "bench.measure.plain")
AT_ONCE = 4
"""Recordings side by side where the card is large: peaks are a process's own, times are not."""

LARGE_CARD_BYTES = 64 * 2**30
CHILD_SECONDS = 90.0
ROUNDS = 2
MAX_FILE_BYTES = 16 * 2**20

SHARES = {"host": 0.05, "golden": 0.18, "cells": 0.36, "verification": 0.78, "throughput": 0.9}
"""Until which share of the time each part may take; what one leaves, the next ones have. The
rest is for the tables."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for. `card` is `None` in a dry run; `profile` is to be verified."""

    out: Path
    minutes: float
    plan: Plan
    card: CardFacts | None
    profile: Path
    command: str


@dataclass
class Session:
    """One run: when each part must end, and what became of the parts before."""

    request: Request
    stop: StopRequest
    began: float = field(default_factory=time.monotonic)
    parts: list[dict[str, Any]] = field(default_factory=list)
    until: float = 1.0

    def left(self) -> float:
        """Seconds that the running part still has."""
        return self.began + 60 * self.request.minutes * self.until - time.monotonic()

    @property
    def device(self) -> str:
        return "cpu" if self.request.card is None else "cuda"

    def pins(self, candidate: Candidate, allocator: Allocator) -> Pins:
        """The pins on this card; a dry run takes those of the default target."""
        card = self.request.card
        capability = (8, 9) if card is None else card.compute_capability
        return pins_for(
            candidate.precision,
            capability,
            deterministic=candidate.deterministic,
            allocator=allocator,
        )


def run_evidence(request: Request, stop: StopRequest) -> list[dict[str, Any]]:
    """Do all parts; gives what became of each, as `index.json` has it."""
    session = Session(request, stop)
    works: dict[str, Callable[[Session], str]] = {
        "host": _host,
        "golden": lambda s: _record_all(s, s.request.plan.golden, "golden.json.gz", history=True),
        "cells": lambda s: _record_all(s, s.request.plan.cells, "cells.json.gz", history=False),
        "verification": _verification,
        "throughput": _throughput,
        "tables": _tables,
    }
    for name, work in works.items():
        session.until = SHARES.get(name, 1.0)
        _do(session, name, work)
        stop.raise_if_asked(f"What was done is in {request.out}.")
    return session.parts


def _do(session: Session, name: str, work: Callable[[Session], str]) -> None:
    began = time.monotonic()
    print(f"  {name}: up to {max(0, session.left()):.0f} s …", file=sys.stderr, flush=True)
    try:
        words, done = work(session), True
    except DistillError as error:
        words, done = str(error), False
    seconds = round(time.monotonic() - began, 1)
    print(f"  {name}: {words} ({seconds:g} s)", file=sys.stderr, flush=True)
    session.parts.append({"part": name, "done": done, "seconds": seconds, "words": words})
    index = {
        "schema_version": 1,
        "command": session.request.command,
        "dry_run": session.request.card is None,
        "code": code_digest(),
        "parts": session.parts,
    }
    write_json(session.request.out / "index.json", index)


def _host(session: Session) -> str:
    """Card, driver, versions and the state that the card is in; never a host or user name."""
    card = session.request.card
    holders = read_holders()
    document = {
        "schema_version": 1,
        "card": None if card is None else asdict(card),
        "state": asdict(read_state()),
        "holders": None if holders.processes is None else len(holders.processes),
        "holders_reason": holders.reason,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "cores": os.cpu_count(),
    }
    write_json(session.request.out / "host.json", document)
    return "no card" if card is None else f"{card.name}, driver {card.driver}"


# -- recordings


def _record_all(session: Session, cells: Sequence[Cell], name: str, *, history: bool) -> str:
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
    return "; ".join([f"{len(found)} of {len(cells)} recorded", *failed])


def _recordings(session: Session, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Recording | str]]:
    """Each cell with its recording, or with why there is none."""
    card = session.request.card
    at_once = AT_ONCE if card is None or card.total_bytes >= LARGE_CARD_BYTES else 1
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda cell: (cell, _recording(session, cell)), cells)


def _recording(session: Session, cell: Cell) -> Recording | str:
    if session.left() < 10 or session.stop.number is not None:
        return "no time left"
    job = Job(
        candidate=cell.candidate,
        pins=session.pins(cell.candidate, cell.allocator),
        device=session.device,
        cap_bytes=None,
    )
    limit = min(CHILD_SECONDS, session.left())
    ended, document = run_document(job_document(job), spawned(RECORDER), limit)
    if document is None:
        return str(judge(ended, None, limit)[2])
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
        code=code_digest(),
        recordings=tuple(recordings),
    )


def _libraries() -> dict[str, Any]:
    """CUDA and cuDNN as this torch was built with them."""
    import torch

    return {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


# -- verification


def _verification(session: Session) -> str:
    """`bench verify` on a copy of the profile: both directions, under an enforced cap."""
    request = session.request
    if request.card is None:
        return "left out of a dry run: it needs a GPU"
    copy = request.out / f"{request.profile.stem}-verified.json"
    write_text(copy, request.profile.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "bench", "verify", str(copy)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(1, session.left())
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed("`bench verify` did not end in its time.") from error
    document = {
        "schema_version": 1,
        "card": request.card.name,
        "profile": copy.name,
        "exit_code": child.returncode,
        "said": [*child.stdout.splitlines(), *child.stderr.splitlines()][-40:],
    }
    write_json(request.out / "verification.json", document)
    if child.returncode != 0:
        raise RunFailed(f"`bench verify` ended with {child.returncode}.")
    return "verified in both directions"


# -- throughput


def _throughput(session: Session) -> str:
    """Every contestant once, then again: what the machine did meanwhile hits all of them."""
    plan, found = session.request.plan, []
    card = session.request.card
    conditions = Conditions(
        card="cpu" if card is None else card.name,
        driver=None if card is None else card.driver,
        cap_bytes=None,
        torch=version("torch"),
        timm=version("timm"),
        code=code_digest(),
    )
    rounds = 1 if card is None else ROUNDS
    wanted = [(r, contestant) for r in range(rounds) for contestant in plan.contestants]
    for number, contestant in wanted:
        if session.left() < 15 or session.stop.number is not None:
            break
        trial = _timed(session, contestant, conditions)
        found.append(_timed_document(number, contestant, trial))
        write_json(session.request.out / "throughput.json", {"schema_version": 1, "trials": found})
    return f"{len(found)} of {len(wanted)} timed"


def _timed(session: Session, contestant: Contestant, conditions: Conditions) -> Trial:
    job = Job(
        candidate=contestant.candidate,
        pins=session.pins(contestant.candidate, "expandable"),
        device=session.device,
        cap_bytes=None,
        cap="native",
        warmup_steps=5 if session.device == "cuda" else 1,
        timed_steps=30 if session.device == "cuda" else 3,
    )
    runner = spawned(PLAIN if contestant.by == "plain loop" else WORKER)
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


# -- tables


def _tables(session: Session) -> str:
    """Tables in a process of their own, which sees no GPU and can be ended when time is up."""
    command = [sys.executable, "-m", "bench", "evidence", "--tables", "--out"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    try:
        subprocess.run(
            [*command, str(session.request.out)],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=max(1, session.left()),
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise RunFailed(
            f"No tables in this run. Make them anywhere: bench evidence --tables --out "
            f"{session.request.out}."
        ) from error
    return "written"


def read_throughput(folder: Path) -> list[dict[str, Any]]:
    """The timed contestants under a folder, as they were written."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("throughput.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["trials"]
    return found
