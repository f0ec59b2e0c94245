"""A worker that misbehaves as the job's student is named: what a fork server must survive."""

import json
import os
import signal
import time
from pathlib import Path


def preload() -> None:
    """Nothing to import."""


def work(job_path: Path, result_path: Path) -> None:
    """Do what the job says."""
    DEEDS[json.loads(job_path.read_text())["candidate"]["student"]["name"]](result_path)


def _hang(result_path: Path) -> None:
    result_path.write_text(str(os.getpid()))
    time.sleep(60)


def _fork(result_path: Path) -> None:
    os.fork()
    time.sleep(60)


def _raise(result_path: Path) -> None:
    raise ValueError("odd")


DEEDS = {
    "hang": _hang,
    "segfault": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    "kill": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    "garbage": lambda path: path.write_bytes(bytes(range(256))),
    "raise": _raise,
    "fork": _fork,
    "oom": lambda path: path.write_text(json.dumps({"outcome": "oom", "error": "full"})),
}
