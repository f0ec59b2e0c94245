"""A trial's child: whatever becomes of it is an outcome, and nothing of it stays."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure import forkserver
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import KEPT_STDERR, Ended, last_words, run_child, run_trial
from bench.measure.jobs import TrialJob
from bench.measure.warm_up import WarmUp, is_settled
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.step_times import quartiles_of
from tests.bench.conftest import CONDITIONS
from tests.conftest import ROOT as PROJECT

ROOT = str(PROJECT)


@pytest.fixture
def job(small_candidate: Candidate) -> TrialJob:
    return TrialJob(
        candidate=replace(small_candidate, accumulation=2),
        pins=pins_for("fp32", (8, 9), deterministic=False, allocator="expandable"),
        device="cpu",
        cap_bytes=None,
        warm_up=WarmUp(at_least=1),
        timed_steps=3,
    )


def with_child(tmp_path: Path, job: TrialJob, code: str, time_limit_seconds: float = 30):
    """Run the job in a child that is not the worker but this code."""
    script = tmp_path / "child.py"
    script.write_text(code)

    def runner(job_path: Path, result_path: Path, limit: float) -> Ended:
        return run_child([sys.executable, str(script), str(job_path), str(result_path)], limit)

    return run_trial(job, CONDITIONS, runner=runner, time_limit_seconds=time_limit_seconds)


@pytest.mark.slow
def test_a_real_step_is_timed_and_on_a_cpu_no_memory_is_claimed(job: TrialJob) -> None:
    trial = run_trial(job, CONDITIONS)
    assert trial.outcome == "ok", trial.error
    assert trial.reading is not None and trial.reading.source == "measured"
    assert len(trial.reading.step_seconds) == 3 and min(trial.reading.step_seconds) > 0
    assert trial.reading.reserved_bytes is None and trial.reading.alloc_retries is None
    assert trial.images_per_second is not None


@pytest.fixture(scope="module")
def server():
    """The fork server of the real worker."""
    with ForkServer(allocator="expandable") as server:
        yield server


@pytest.mark.slow
def test_a_candidate_that_cannot_be_built_is_a_crash_with_its_sentence(
    server, job: TrialJob
) -> None:
    student = replace(job.candidate.student, name="no_such_model")
    broken = replace(job, candidate=replace(job.candidate, student=student))
    trial = run_trial(broken, CONDITIONS, runner=server)
    assert trial.outcome == "crash"
    assert trial.error is not None and "no_such_model" in trial.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "outcome", "error"),
    [
        ("import time; time.sleep(60)", "timeout", "no result within 1 s"),
        ("import os; os.abort()", "crash", "ended by SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", "crash", "ended by SIGSEGV"),
        ("import sys; open(sys.argv[2], 'wb').write(bytes(range(256)))", "crash", "no readable"),
        ("import sys; sys.stdout.write('x' * 10**6); sys.stderr.write('y' * 10**6)", "crash", "no"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
            "bytearray(2**30)",
            "crash",
            "MemoryError",
        ),
        ("import os, time\nif os.fork() == 0: time.sleep(60)\nos._exit(3)", "crash", "status 3"),
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


def test_the_end_of_its_stderr_is_kept_without_the_folders_that_name_a_user(tmp_path, job) -> None:
    code = f"raise ValueError({str(Path.home() / 'secret')!r} + {str(Path.cwd())!r})"
    trial = with_child(tmp_path, job, code)
    assert trial.stderr is not None and "~/secret" in trial.stderr
    assert str(Path.home()) not in trial.stderr and len(trial.stderr) <= KEPT_STDERR


def test_memory_that_others_moved_meanwhile_makes_a_trial_contaminated(tmp_path, job) -> None:
    code = (
        "import json, sys\n"
        "rounds = [{'first_step': n, 'began_seconds': n, 'outside_bytes': 2**29 + n * 2**27}"
        " for n in range(2)]\n"
        "reading = {'source': 'measured', 'rounds': rounds, 'step_seconds': [1.0]}\n"
        "open(sys.argv[2], 'w').write(json.dumps({'outcome': 'ok', 'reading': reading}))\n"
    )
    trial = with_child(tmp_path, job, code)
    assert trial.outcome == "contaminated"
    assert trial.error == "another process moved 128 MiB on the device meanwhile"


def test_a_child_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Even when that one is killed, so that no orphan holds a device."""
    pid_file = tmp_path / "pid"
    child = (
        "import os, time; from distill.base.parent_death import end_with_parent;"
        "end_with_parent();"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    asker = (
        "import sys; from bench.measure.isolate import run_child;"
        f"run_child([sys.executable, '-c', {child!r}], 60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", asker], env=os.environ | {"PYTHONPATH": ROOT})
    try:
        wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()))
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: is_gone(int(pid_file.read_text())))


@pytest.mark.slow
def test_forked_children_count_what_they_hold_and_claim_no_device(server, job: TrialJob) -> None:
    trials = [run_trial(job, CONDITIONS, runner=server) for _ in range(2)]
    assert server.unfit is None
    for trial in trials:
        assert trial.outcome == "ok", trial.stderr
        reading = trial.reading
        assert reading is not None and reading.held is not None
        weights, state = reading.held["weights"], reading.held["optimizer_state"]
        assert 2 * weights <= state <= 2 * weights + 64 * 100
        assert reading.held["teacher"] > weights
        assert reading.context_bytes is None and reading.device_used_bytes is None
        assert [one.first_step for one in reading.rounds] == [0, 1, 2, 3]
        assert job.warm_up.is_over(reading.warm_up_seconds) and reading.settled is not None
        assert reading.quartiles == quartiles_of(reading.step_seconds)
        assert trial.images_per_second == 8 / reading.quartiles.median_seconds
        assert (reading.card_seconds, reading.launches, reading.missing) == (None, None, None)


def test_a_warm_up_goes_on_until_the_times_of_real_updates_have_settled(
    server, job: TrialJob
) -> None:
    patient = replace(job, warm_up=WarmUp(at_least=1, at_most=200, limit_seconds=60))
    reading = run_trial(patient, CONDITIONS, runner=server).reading
    assert reading is not None and reading.settled
    warm = reading.warm_up_seconds
    assert is_settled(warm) and not any(is_settled(warm[:n]) for n in range(1, len(warm)))


@pytest.fixture(scope="module")
def unruly_server():
    """A fork server whose children do as the job's candidate says."""
    os.environ["PYTHONPATH"], before = ROOT, os.environ.get("PYTHONPATH")
    with ForkServer(allocator="expandable", module="tests.bench.measure.unruly") as server:
        yield server
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "outcome", "error"),
    [
        ("hang", "timeout", "no result within 1 s"),
        ("segfault", "crash", "ended by SIGSEGV"),
        ("kill", "crash", "ended by SIGKILL"),
        ("garbage", "crash", "no readable result"),
        ("raise", "crash", "ValueError: odd"),
        ("fork", "timeout", "no result within 1 s"),
        ("oom", "oom", "full"),
    ],
)
def test_each_end_of_a_forked_child_is_the_same_outcome(
    unruly_server, job, deed, outcome, error
) -> None:
    student = replace(job.candidate.student, name=deed)
    unruly = replace(job, candidate=replace(job.candidate, student=student))
    limit = 1 if outcome == "timeout" else 30
    trial = run_trial(unruly, CONDITIONS, runner=unruly_server, time_limit_seconds=limit)
    assert (trial.outcome, unruly_server.unfit) == (outcome, None)
    assert error in (trial.error or "")


def test_a_server_that_does_not_start_is_done_without(job: TrialJob, tmp_path: Path) -> None:
    used = []

    def fallback(job_path: Path, result_path: Path, limit: float) -> Ended:
        used.append(job_path)
        return Ended(5, "from the fallback")

    with ForkServer(allocator="expandable", module="no.such", fallback=fallback) as server:
        trial = run_trial(job, CONDITIONS, runner=server)
    assert used and trial.error == "from the fallback"
    assert server.unfit == "the server did not start"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "words"),
    [
        (lambda: os._exit(1), "a fork can't make a CUDA context"),
        (lambda: time.sleep(60), "a fork did not make a CUDA context in time"),
        (lambda: os._exit(0), None),
    ],
)
def test_a_server_tries_whether_its_forks_can_use_the_driver(
    monkeypatch: pytest.MonkeyPatch, context, words: str | None
) -> None:
    monkeypatch.setattr(forkserver, "_make_context", context)
    monkeypatch.setattr(forkserver, "CONTEXT_SECONDS", 1.0)
    assert forkserver._why_unfit() == words


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().split()[2] == "Z"


def test_retries_of_the_allocator_are_thrashing(tmp_path: Path, job: TrialJob) -> None:
    code = (
        "import json, sys\n"
        "reading = {'source': 'measured', 'alloc_retries': 2, 'step_seconds': [1.0]}\n"
        "open(sys.argv[2], 'w').write(json.dumps({'outcome': 'ok', 'reading': reading}))\n"
    )
    trial = with_child(tmp_path, job, code)
    assert trial.outcome == "thrash" and trial.error == "the allocator retried 2 time(s)"


@pytest.mark.slow
def test_what_a_child_starts_does_not_outlive_it(tmp_path: Path, job: TrialJob) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    assert with_child(tmp_path, job, code, 3).outcome == "timeout"
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def test_of_a_failure_the_line_is_told_that_names_it() -> None:
    """CUDA's errors end in lines of hints."""
    stderr = (
        "Traceback (most recent call last):\n"
        '  File "worker.py", line 1, in <module>\n'
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\n"
    )
    named = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
    assert last_words(stderr) == named
    assert last_words("one\ntwo\n") == "two" and last_words("\n") is None
