"""One trial in a fresh child process: whatever happens to it is an outcome, not an exception.

A child that hangs is ended with its whole process group, one that crashes leaves the end of its
stderr. Never retries and never changes the candidate.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.measure.worker import Job, job_document
from bench.trials import Conditions, Outcome, Reading, Trial
from distill.files import write_json

WORKER = (sys.executable, "-m", "bench.measure.worker")
TIME_LIMIT_SECONDS = 300.0
KEPT_STDERR = 2000


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status (negative: the signal), or that time ran out."""

    status: int | None
    stderr: str


def run_trial(
    job: Job,
    conditions: Conditions,
    *,
    worker: Sequence[str] = WORKER,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Trial:
    """Run the job in a child and say what became of it."""
    with tempfile.TemporaryDirectory(prefix="bench-trial-") as folder:
        job_path, result_path = Path(folder, "job.json"), Path(folder, "result.json")
        write_json(job_path, job_document(job))
        command = [*worker, str(job_path), str(result_path)]
        ended = run_child(command, time_limit_seconds)
        outcome, reading, error = _judge(ended, result_path, time_limit_seconds)
    return Trial(
        candidate=job.candidate,
        conditions=conditions,
        pins=job.pins,
        outcome=outcome,
        reading=reading,
        error=error,
    )


def run_child(command: Sequence[str], time_limit_seconds: float) -> Ended:
    """Run a command in a process group of its own; end the group when time runs out."""
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status: int | None = child.wait(time_limit_seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end_group(child)
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - KEPT_STDERR))
        return Ended(status, stderr.read().decode(errors="replace"))


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """Nothing that the child started outlives it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _judge(
    ended: Ended, result_path: Path, time_limit_seconds: float
) -> tuple[Outcome, Reading | None, str | None]:
    if ended.status is None:
        return "timeout", None, f"no result within {time_limit_seconds:g} s"
    if ended.status != 0:
        return "crash", None, _last_line(ended)
    try:
        result = json.loads(result_path.read_text(encoding="utf-8"))
        return _outcome(result)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        return "crash", None, f"the child left no readable result ({type(error).__name__})"


def _outcome(result: dict[str, Any]) -> tuple[Outcome, Reading | None, str | None]:
    if result["outcome"] == "oom":
        return "oom", None, str(result["error"])
    reading = TypeAdapter(Reading).validate_python(result["reading"])
    if reading.alloc_retries:
        return "thrash", reading, f"the allocator retried {reading.alloc_retries} time(s)"
    return "ok", reading, None


def _last_line(ended: Ended) -> str:
    assert ended.status is not None
    if ended.status < 0:
        return f"ended by {signal.Signals(-ended.status).name}"
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit status {ended.status}"
