"""One trial in a fresh child process: whatever happens to it is an outcome, not an exception.

A child that hangs is ended with its whole process group, one that crashes leaves the end of its
stderr, and none outlives this process. Never retries and never changes the candidate.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.measure.jobs import TrialJob, job_document
from bench.trials.trial import Conditions, Measured, Outcome, Trial
from distill.base.children import child_group, raise_if_asked_to_stop
from distill.base.errors import UserError
from distill.base.files import write_json
from distill.base.reading import read_json
from distill.base.scratch import scratch_folder
from distill.base.signals import KEPT
from distill.base.units import MIB

TRIAL_CHILD = "bench.measure.trial_child"
TIME_LIMIT_SECONDS = 300.0
KEPT_STDERR = 2000

NAMES_AN_ERROR = re.compile(r"[\w.]+(Error|Exception)\b(: |$)")
"""The line of a traceback that says what it was; hints may follow it."""

MOVED_BYTES = 64 * MIB
"""Another process is held to have moved memory when what is outside PyTorch changes by more."""


@dataclass(frozen=True)
class Ended:
    """A child's end: its exit status (negative: the signal), or that time ran out."""

    status: int | None
    stderr: str


Runner = Callable[[Path, Path, float], Ended]
"""Runs a job file in a child, which writes a result file, within a time limit."""


def spawned(module: str = TRIAL_CHILD, *, pinned: bool = True) -> Runner:
    """A runner that starts a child (see `child`) with the work of `module` anew each time."""
    flags = [] if pinned else ["--unpinned"]

    def run(job_path: Path, result_path: Path, time_limit_seconds: float) -> Ended:
        command = [sys.executable, "-m", "bench.measure.child", module]
        return run_child([*command, str(job_path), str(result_path), *flags], time_limit_seconds)

    return run


def run_trial(
    job: TrialJob,
    conditions: Conditions,
    *,
    runner: Runner | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Trial:
    """Run the job in a child, a new one without a `runner`, and say what became of it."""
    ended, result = run_document(job_document(job), runner or spawned(), time_limit_seconds)
    outcome, reading, error = outcome_of(ended, result, time_limit_seconds)
    return Trial(
        candidate=job.candidate,
        conditions=conditions,
        pins=job.pins,
        outcome=outcome,
        reading=reading,
        error=error,
        stderr=ended.stderr if outcome in ("timeout", "crash") and ended.stderr else None,
    )


def run_document(
    document: dict[str, Any], runner: Runner, time_limit_seconds: float
) -> tuple[Ended, Any]:
    """Hand a child a JSON document; how it ended, and the JSON it left (`None`: none readable).

    Raises `Interrupted` for a child that was asked to stop: that is no outcome.
    """
    with scratch_folder("bench-trial") as folder:
        job_path, result_path = folder / "job.json", folder / "result.json"
        write_json(job_path, document)
        ended = runner(job_path, result_path, time_limit_seconds)
        raise_if_asked_to_stop(ended.status, KEPT)
        try:
            return ended, read_json(result_path)
        except UserError:
            return ended, None


def run_child(command: Sequence[str], time_limit_seconds: float) -> Ended:
    """Run a command in a process group of its own; end the group when time runs out."""
    with tempfile.TemporaryFile() as stderr:
        with child_group(command, stderr=stderr) as child:
            try:
                status: int | None = child.wait(time_limit_seconds)
            except subprocess.TimeoutExpired:
                status = None
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - KEPT_STDERR))
        return Ended(status, scrubbed(stderr.read()))


def scrubbed(text: bytes) -> str:
    """A child's words, without the folders that name a user."""
    plain = text.decode(errors="replace")
    return plain.replace(str(Path.cwd()), ".").replace(str(Path.home()), "~")


def outcome_of(
    ended: Ended, result: Any, time_limit_seconds: float
) -> tuple[Outcome, Measured | None, str | None]:
    """A child's end as an outcome, with the reading if there is one, and one line of why."""
    if ended.status is None:
        return "timeout", None, f"no result within {time_limit_seconds:g} s"
    if ended.status != 0:
        return "crash", None, _last_line(ended)
    try:
        return _read_outcome(result)
    except (KeyError, TypeError, ValidationError) as error:
        return "crash", None, f"the child left no readable result ({type(error).__name__})"


def _read_outcome(result: Any) -> tuple[Outcome, Measured | None, str | None]:
    if result["outcome"] == "oom":
        return "oom", None, str(result["error"])
    reading = TypeAdapter(Measured).validate_python(result["reading"])
    if reading.alloc_retries:
        return "thrash", reading, f"the allocator retried {reading.alloc_retries} time(s)"
    moved = moved_bytes(reading)
    if moved > MOVED_BYTES:
        words = f"another process moved {moved // MIB} MiB on the device meanwhile"
        return "contaminated", reading, words
    return "ok", reading, None


def moved_bytes(reading: Measured) -> int:
    """By how much the memory outside PyTorch changed while steps were timed; 0 if not told."""
    outside = [one.outside_bytes for one in reading.rounds if one.outside_bytes is not None]
    return max(outside) - min(outside) if outside else 0


def why_it_ended(ended: Ended, time_limit_seconds: float) -> str:
    """One line of why a child left no result."""
    _, _, why = outcome_of(ended, None, time_limit_seconds)
    return why or "no reason given"


def _last_line(ended: Ended) -> str:
    assert ended.status is not None
    if ended.status < 0:
        return f"ended by {signal.Signals(-ended.status).name}"
    return last_words(ended.stderr) or f"exit status {ended.status}"


def last_words(stderr: str) -> str | None:
    """The line that names the error; CUDA's come with lines of hints behind it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if NAMES_AN_ERROR.match(line)]
    return (named or lines)[-1] if lines else None
