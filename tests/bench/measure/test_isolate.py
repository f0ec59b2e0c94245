"""A trial's child: whatever becomes of it is an outcome, and nothing of it stays."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure.isolate import run_trial
from bench.measure.worker import Job
from distill.candidate import Candidate
from distill.pins import pins_for
from tests.bench.conftest import CONDITIONS


@pytest.fixture
def job(small_candidate: Candidate) -> Job:
    return Job(
        candidate=replace(small_candidate, accumulation=2),
        pins=pins_for("fp32", (8, 9), deterministic=False, allocator="expandable"),
        device="cpu",
        cap_bytes=None,
        warmup_steps=1,
        timed_steps=3,
    )


def with_child(tmp_path: Path, job: Job, code: str, time_limit_seconds: float = 30):
    """Run the job in a child that is not the worker but this code."""
    script = tmp_path / "child.py"
    script.write_text(code)
    worker = (sys.executable, str(script))
    return run_trial(job, CONDITIONS, worker=worker, time_limit_seconds=time_limit_seconds)


def test_a_real_step_is_timed_and_on_a_cpu_no_memory_is_claimed(job: Job) -> None:
    trial = run_trial(job, CONDITIONS)
    assert trial.outcome == "ok", trial.error
    assert trial.reading is not None and trial.reading.source == "measured"
    assert len(trial.reading.step_seconds) == 3 and min(trial.reading.step_seconds) > 0
    assert trial.reading.reserved_bytes is None and trial.reading.alloc_retries is None
    assert trial.images_per_second is not None


def test_a_candidate_that_cannot_be_built_is_a_crash_with_its_sentence(job: Job) -> None:
    student = replace(job.candidate.student, name="no_such_model")
    trial = run_trial(replace(job, candidate=replace(job.candidate, student=student)), CONDITIONS)
    assert trial.outcome == "crash"
    assert trial.error is not None and "no_such_model" in trial.error


@pytest.mark.parametrize(
    ("code", "outcome", "error"),
    [
        ("import time; time.sleep(60)", "timeout", "no result within 1 s"),
        ("import os; os.abort()", "crash", "ended by SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "crash", "ended by SIGKILL"),
        ("raise ValueError('odd')", "crash", "ValueError: odd"),
        ("import sys; open(sys.argv[2], 'w').write('{')", "crash", "no readable result"),
        ("import sys; open(sys.argv[2], 'w').write('[]')", "crash", "no readable result"),
        ("print('nothing written')", "crash", "no readable result"),
        (
            'import sys; open(sys.argv[2], \'w\').write(\'{"outcome": "oom", "error": "full"}\')',
            "oom",
            "full",
        ),
    ],
)
def test_each_end_of_a_child_is_an_outcome(tmp_path, job, code, outcome, error) -> None:
    limit = 1 if outcome == "timeout" else 30
    trial = with_child(tmp_path, job, code, limit)
    assert trial.outcome == outcome
    assert error in (trial.error or "")
    assert trial.candidate == job.candidate


def test_retries_of_the_allocator_are_thrashing(tmp_path: Path, job: Job) -> None:
    code = (
        "import json, sys\n"
        "reading = {'source': 'measured', 'alloc_retries': 2, 'step_seconds': [1.0]}\n"
        "open(sys.argv[2], 'w').write(json.dumps({'outcome': 'ok', 'reading': reading}))\n"
    )
    trial = with_child(tmp_path, job, code)
    assert trial.outcome == "thrash" and trial.error == "the allocator retried 2 time(s)"


def test_what_a_child_starts_does_not_outlive_it(tmp_path: Path, job: Job) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    assert with_child(tmp_path, job, code, 3).outcome == "timeout"
    grandchild = int(pid_file.read_text())
    for _ in range(100):
        state = Path(f"/proc/{grandchild}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(grandchild, 9)
    raise AssertionError("the grandchild lives on")
