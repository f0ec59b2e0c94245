"""Things that are no plain files, made in a temporary folder, and a limit on how long one waits.

What the system refuses to make (a container without the right to) is skipped aloud. Nothing here
ever touches /dev.
"""

import atexit
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FULL, ZERO, NULL = 7, 5, 3
"""Minor numbers of /dev/full, /dev/zero and /dev/null (major 1)."""


def device(path: Path, minor: int) -> Path:
    """A character device as /dev has it: reading FULL or ZERO never ends, writing FULL fails."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        pytest.skip("devices can't be made here")
    return path


def pipe(path: Path) -> Path:
    """A named pipe with nobody at its other end."""
    os.mkfifo(path)
    return path


def loop(path: Path) -> Path:
    """A link to itself."""
    path.symlink_to(path)
    return path


def bound_socket(path: Path) -> Path:
    """A socket in the file system."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    return path


def odd_things(folder: Path) -> Iterator[tuple[str, Path]]:
    """One of each kind that is no plain file, with the words that a message has for it."""
    yield "it is a pipe", pipe(folder / "pipe")
    yield "it is a folder", folder
    yield "it is a socket", bound_socket(folder / "socket")
    yield "Too many levels of symbolic links", loop(folder / "loop")
    yield "File name too long", folder / ("n" * 300)
    yield "it is a device", device(folder / "zero", ZERO)
    yield "it is a device", device(folder / "full", FULL)


def small_disk(folder: Path) -> Path:
    """A file system of 64 KiB, which goes when the tests end."""
    folder.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(tmpfs, capture_output=True, check=False).returncode:
        pytest.skip("file systems can't be mounted here")
    atexit.register(subprocess.run, ["umount", "-l", str(folder)], check=False)
    return folder


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail what waits for ever."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"nothing came of it within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
