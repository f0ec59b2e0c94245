"""A trial ends with whoever asked for it: at a second Ctrl-C, and however that one dies."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.signalled import Signalled, is_running, signalled

ASKER = """
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import run_document
from distill.base.console import fail
from distill.base.errors import DistillError
from distill.base.signals import stop_on_signals

hang = {"candidate": {"student": {"name": "hang"}}}
try:
    with (
        stop_on_signals("All is kept.") as stop,
        ForkServer(allocator="expandable", module="tests.bench.measure.unruly") as server,
        stop.finishing(lambda: "the trial"),
    ):
        run_document(hang, server, 60)
except DistillError as error:
    fail(str(error), error.exit_code)
"""


@pytest.fixture
def hanging(tmp_path: Path) -> tuple[Signalled, int]:
    """A process that waits for a trial, and the trial, which hangs."""
    script = tmp_path / "asker.py"
    script.write_text(ASKER)
    asker = signalled(tmp_path, str(script))
    until = time.monotonic() + 120
    while not (said := "".join(path.read_text() for path in tmp_path.glob("tmp/*/result.json"))):
        assert asker.process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    asker.workers()
    asker.children.add(int(said))
    return asker, int(said)


@pytest.mark.slow
def test_ctrl_c_twice_leaves_no_trial_behind(hanging: tuple[Signalled, int]) -> None:
    asker, trial = hanging
    asker.send(signal.SIGINT, "group")
    time.sleep(0.5)
    assert is_running(trial)
    asker.send(signal.SIGINT, "group")
    code, said = asker.end()
    assert code == 130
    first, last = said.splitlines()
    assert first == "SIGINT: finishing the trial; once more ends at once."
    assert last == "Error: Stopped at once by SIGINT. All is kept."


@pytest.mark.slow
def test_a_killed_process_takes_its_trial_along(hanging: tuple[Signalled, int]) -> None:
    asker, _ = hanging
    asker.send(signal.SIGKILL, "parent")
    assert asker.end()[0] == -signal.SIGKILL


@pytest.mark.slow
def test_a_trial_that_is_asked_to_stop_is_no_outcome(hanging: tuple[Signalled, int]) -> None:
    asker, trial = hanging
    os.kill(trial, signal.SIGTERM)
    code, said = asker.end()
    assert code == 143 and said.startswith("Error: Stopped by SIGTERM, sent to a process of this")


@pytest.mark.slow
def test_a_killed_server_takes_its_trial_along(hanging: tuple[Signalled, int]) -> None:
    asker, trial = hanging
    server = asker.workers()[0]
    os.kill(server, signal.SIGKILL)
    until = time.monotonic() + 5
    while is_running(trial):
        assert time.monotonic() < until
        time.sleep(0.02)
    asker.send(signal.SIGKILL, "parent")
    asker.end()
