"""Outputs that are no plain files: pipes, terminals and other character devices, `/dev/stdout`.

They are written to and never replaced. A pipe that nobody reads from is refused, not waited for.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO

from distill.base.reading import kind_of

MOST_LINKS = 40
"""As many as Linux follows (path_resolution(7))."""

OPEN_FILE = re.compile(r"/(?:proc/(?:self|thread-self)/fd|dev/fd)/(\d+)")
"""A path that stands for a file which this process has open, as `/dev/stdout` does."""


def is_stream(path: Path) -> bool:
    """Tell whether a path is written to as a stream; a plain file, there or not, is none.

    Raises `OSError` for what is neither: a folder, a block device, a socket, a loop of links.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if _descriptor(path) is not None or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}", os.fspath(path))
    return False


def write_to_stream(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make the whole content first, for writers that go back and forth, then hand it on."""
    content = io.BytesIO()
    write(content)
    handle = _opened(path)
    try:
        _write_all(handle, content.getbuffer())
    finally:
        os.close(handle)


def append_to_stream(path: Path, line: bytes) -> None:
    """Write a line and leave the stream open: who reads a pipe takes a closed one for the end."""
    _write_all(_kept_open(path), memoryview(line))


def _write_all(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]


@cache
def _kept_open(path: Path) -> int:
    return _opened(path)


def _opened(path: Path) -> int:
    """The stream, open for writing. Raises `OSError` for a pipe without a reader."""
    number = _descriptor(path)
    if number is not None:
        return os.dup(number)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from that pipe") from error
        raise
    os.set_blocking(handle, True)
    return handle


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path stands for, if it does."""
    place = Path.cwd() / path
    for _ in range(MOST_LINKS):
        match = OPEN_FILE.fullmatch(os.path.normpath(place))
        if match is not None:
            return int(match[1])
        if not place.is_symlink():
            return None
        place = place.parent / place.readlink()
    return None
