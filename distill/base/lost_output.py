"""Standard output and standard error on a full disk: a result that is lost is told, and fails.

Standard output holds what was asked for: a command that loses it does the rest of its work, then
ends with a sentence and exit code 1. Standard error holds progress, which may be lost.
"""

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class LostOutput(Exception):
    """Standard output could not be written; the message says why."""


@contextmanager
def output_kept() -> Iterator[None]:
    """Raise `LostOutput` at the end where what was printed inside could not be written.

    An exit status other than 0 stays. A reader that went away (`EPIPE`) is Click's to end.
    """
    with _watched("stderr"), _watched("stdout") as output:
        try:
            yield
        except SystemExit as leaving:
            if leaving.code or _reason(output) is None:
                raise
        reason = _reason(output)
        if reason is not None:
            raise LostOutput(reason)


class _Output(io.FileIO):
    """An open file whose failures are kept, not raised, and may be asked for as `lost`."""

    lost: str | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            self.lost = error.strerror or str(error)
            return memoryview(content).nbytes


@contextmanager
def _watched(name: str) -> Iterator[_Output | None]:
    """Put `_Output` below `sys.stdout` or `sys.stderr`, unless a test has its own there."""
    real = getattr(sys, name)
    if real is None or real is not getattr(sys, f"__{name}__"):
        yield None
        return
    raw: Any = _Output(real.fileno(), "w", closefd=False)
    buffered = io.BufferedWriter(raw)
    stream = io.TextIOWrapper(
        buffered,
        encoding=real.encoding,
        errors=real.errors,
        line_buffering=name == "stderr" or real.line_buffering,
    )
    setattr(sys, name, stream)
    try:
        yield raw
    finally:
        with suppress(OSError):
            stream.flush()
        setattr(sys, name, real)


def _reason(output: _Output | None) -> str | None:
    """Why standard output was lost, once all of it was written; `None` where it was not."""
    if output is None:
        return None
    sys.stdout.flush()
    return output.lost
