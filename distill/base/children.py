"""Child processes that end with this one, however it ends, and leave nothing behind.

Each child leads a group of its own, so that a terminal's Ctrl-C reaches this process alone, which
decides; whatever a child started ends with it. See `parent_death` for the child's side.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

from distill.base.errors import Interrupted
from distill.base.signals import ASKING, halt_if_leaving, undone_at_once


@contextmanager
def child_group(
    command: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | IO[Any] | None = subprocess.DEVNULL,
    stderr: int | IO[Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a command; when the block ends, so does the child with everything it started.

    Without `stdin` that is a pipe to which nothing is written: its end is the end of this process.
    """
    reading, writing = os.pipe()
    try:
        child = subprocess.Popen(
            command,
            stdin=reading if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        os.close(reading)
        try:
            with undone_at_once(partial(end_group, child.pid)):
                yield child
        finally:
            end_group(child.pid)
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            halt_if_leaving()
    finally:
        os.close(writing)


def run_command(
    module: str,
    *arguments: str,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] | None = None,
    timeout_seconds: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS…` to its end in a `child_group`; gives what it said.

    Raises `subprocess.TimeoutExpired`; the command has ended then.
    """
    command = [sys.executable, "-m", "distill.base.parent_death", module, *arguments]
    with child_group(command, stdout=stdout, stderr=stderr) as child:
        said = child.communicate(timeout=timeout_seconds)
    texts = [None if one is None else one.decode(errors="replace") for one in said]
    return subprocess.CompletedProcess(command, child.returncode, *texts)


def end_group(leader: int) -> None:
    """End a group of processes, whatever is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def raise_if_asked_to_stop(status: int | None, kept: str) -> None:
    """Raise `Interrupted` for a child that was asked to stop: by the signal, or by its code."""
    for number in ASKING:
        if status in (-number, 128 + number):
            words = f"Stopped by {number.name}, sent to a process of this command. {kept}"
            raise Interrupted(number, words)
