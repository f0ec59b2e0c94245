"""Running a program and judging how it ended. A failure is one `Failed` with the last lines."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

LAST_LINES = 25


class Failed(Exception):
    """Something that the container files promise does not hold."""


class Stopped(Exception):
    """Asked to stop by a signal."""


Done = subprocess.CompletedProcess[str]


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> Done:
    """Run a program without input and keep what it printed."""
    try:
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not there") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{_words(command)} took longer than {timeout:.0f} s") from error


def expect(done: Done, code: int = 0) -> Done:
    """The same again if it ended with `code`."""
    if done.returncode != code:
        lines = f"{done.stdout}\n{done.stderr}".strip().splitlines()[-LAST_LINES:]
        raise Failed(
            f"{_words(done.args)} ended with {done.returncode}, not {code}\n" + "\n".join(lines)
        )
    return done


def require(holds: bool, sentence: str) -> None:
    """Raise `Failed` with the sentence unless it holds."""
    if not holds:
        raise Failed(sentence)


def stop_on_term() -> None:
    """Let SIGTERM unwind like an exception, so that what was started is stopped."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


def _words(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)[:300]
