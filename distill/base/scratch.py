"""Temporary folders that are gone afterwards, also when the process was killed.

A folder is locked (flock(2)) by the process that uses it, for as long as that lives; the next one
that makes a folder of the same kind deletes those that nobody holds.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from distill.base.signals import undone_at_once

JUST_MADE_SECONDS = 60.0
"""A folder is left alone for so long, as the process that made it may be about to lock it."""


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """An empty folder `<kind>-…` among the system's temporary files, deleted afterwards."""
    _delete_abandoned(kind)
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    delete = partial(shutil.rmtree, folder, ignore_errors=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with undone_at_once(delete):
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        os.close(handle)
        delete()


def _delete_abandoned(kind: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{kind}-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > JUST_MADE_SECONDS and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
