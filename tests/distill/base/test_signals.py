"""A signal is answered at once, whatever the main thread does; nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.base.errors import Interrupted
from distill.base.signals import StopRequest, signals_answered, stop_on_signals
from tests.conftest import ROOT
from tests.signalled import is_running

PLAIN = """
import hashlib, sys, time
from distill.base.children import child_group
from distill.base.scratch import scratch_folder
from distill.base.signals import signals_answered

with signals_answered(), scratch_folder("test") as folder:
    command = [sys.executable, "-c", "import signal, time; signal.pause()"]
    with child_group(command) as child:
        print(child.pid, flush=True)
        (folder / "half").touch()
        BUSY
"""
BUSY = {
    "sleeping": "time.sleep(60)",
    "waiting for its child": "child.wait()",
    "in a call that no signal interrupts": "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
}

FINISHING = """
import time
from distill.base.signals import stop_on_signals

with stop_on_signals("All is kept.") as stop:
    with stop.finishing(lambda: "the loop, about a second"):
        print("inside", flush=True)
        while stop.number is None:
            time.sleep(0.05)
        time.sleep(SECONDS)
print("never said")
"""


def started(code: str, tmp_path: Path) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_its_child_and_its_temporary_files(
    tmp_path: Path, busy: str, number: signal.Signals, code: int
) -> None:
    process = started(PLAIN.replace("BUSY", BUSY[busy]), tmp_path)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (
        code,
        f"Error: Stopped by {number.name}. What was finished is kept.\n",
    )
    assert not is_running(child)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_what_is_being_finished_is_told_at_once_and_finished(tmp_path: Path) -> None:
    process = started(FINISHING.replace("SECONDS", "0.5"), tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # as some programs do: the child, then its group
    began = time.monotonic()
    line = process.stderr.readline()
    assert time.monotonic() - began < 0.4
    assert line == "SIGINT: finishing the loop, about a second; once more ends at once.\n"
    output, said = process.communicate(timeout=30)
    assert "Stopped by SIGINT. All is kept." in said and "never said" not in output


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = started(FINISHING.replace("SECONDS", "60"), tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 143
    assert said == "Error: Stopped at once by SIGTERM. All is kept.\n"


def test_a_wish_that_nobody_looked_at_is_heard_when_the_work_is_done() -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted, match="Stopped by SIGINT"), stop.finishing(lambda: "work"):
        assert stop.answered(signal.SIGINT)
    assert not StopRequest().answered(signal.SIGINT)  # nothing to finish: ended at once


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals_answered(), stop_on_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
