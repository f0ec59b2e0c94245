"""Commands that get signals: in a group of their own, and what is left of them afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forked import ROOT


@dataclass
class Signalled:
    """A running command. `children` are all processes that it was seen to have."""

    process: "subprocess.Popen[str]"
    children: set[int]

    def workers(self) -> list[int]:
        """Its processes now, those of its processes included; the library's own helper aside."""
        found = [
            pid for pid in _descendants(self.process.pid) if b"resource_tracker" not in _words(pid)
        ]
        self.children |= set(found)
        return found

    def wait_for_workers(self, number: int, seconds: float = 120) -> list[int]:
        """So many of its processes, as soon as they are there."""
        until = time.monotonic() + seconds
        while len(found := self.workers()) < number:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        return found

    def send(self, number: signal.Signals, to: str) -> None:
        """Send a signal to the whole group, as a terminal does, to the parent or to a worker."""
        workers = self.workers()
        match to:
            case "group":
                os.killpg(self.process.pid, number)
            case "parent":
                self.process.send_signal(number)
            case "worker":
                os.kill(workers[-1], number)

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Its exit status and what it said on standard error; none of its processes is left."""
        _, said = self.process.communicate(timeout=seconds)
        until = time.monotonic() + 5
        while left := [pid for pid in self.children if is_running(pid)]:
            assert time.monotonic() < until, left
            time.sleep(0.02)
        return self.process.returncode, said


def signalled(folder: Path, *arguments: str) -> Signalled:
    """Start `python ARGUMENTS…` in a folder, which has its temporary files too."""
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Signalled(process, set())


def is_running(pid: int) -> bool:
    """True unless the process is gone, or is a zombie that nobody has waited for."""
    return _status(pid)[:1] not in ([], ["Z"])


def _descendants(pid: int) -> list[int]:
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            status = _status(int(entry.name))
            if status and status[0] != "Z":
                below.setdefault(int(status[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = below.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _status(pid: int) -> Sequence[str]:
    """State, parent and what follows them in /proc/PID/stat; nothing if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
