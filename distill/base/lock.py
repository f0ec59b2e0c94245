"""One process at a time on the same files. The lock ends with its process, however that ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from distill.base.errors import UserError
from distill.base.files import ensure_folder, unwritable


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep other processes from `path`, a file or folder that need not exist yet.

    A record lock (fcntl(2)) on a file beside it, which stays there: children do not inherit it.
    Raises `UserError` when another process has it; a file system without locks gives none.
    """
    ensure_folder(path.parent)
    with _opened(path.parent / f".{path.name}.lock") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"Another process is at work on {path}. Wait for its end, or choose another "
                    "folder."
                ) from error
        yield


def _opened(file: Path) -> BinaryIO:
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        return os.fdopen(os.open(file, flags, 0o666), "ab")
    except OSError as error:
        raise unwritable(file, error) from error
