"""Two processes are never at work on the same run or journal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.base.lock import alone_with

HOLD = """
import sys, pathlib, multiprocessing, time
from distill.base.lock import alone_with
with alone_with(pathlib.Path(sys.argv[1])):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "results" / "digits"
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        orphan = int(holder.stdout.readline())
        try:
            refused = pytest.raises(UserError, match="Another process is at work on .*digits")
            with refused, alone_with(run):
                pass
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with alone_with(run):  # though a child of it still lives
                assert not run.exists()
        finally:
            subprocess.run(["kill", "-9", str(orphan)], check=True)


def test_what_is_locked_may_be_deleted_meanwhile(tmp_path: Path) -> None:
    run = tmp_path / "digits"
    run.mkdir()
    with alone_with(run):
        run.rmdir()
    with alone_with(run):
        pass


def test_a_place_that_cannot_be_locked_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".digits.lock").mkdir()
    with (
        pytest.raises(UserError, match="Cannot write to .*digits.lock"),
        alone_with(tmp_path / "digits"),
    ):
        pass
