"""Writing files so that nothing half-written is ever left behind.

Whole files go through a temporary file, fsync and rename; journals are appended and fsynced
line by line. A torn last line of a journal is tolerated and reported, never repaired in place.
"""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from distill.base.errors import RunFailed, UserError

STALE_SUFFIX = ".partial"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(
    path: Path, write: Callable[[BinaryIO], object], *, previous: Path | None = None
) -> None:
    """Call `write` on a temporary file beside `path`, then put it in `path`'s place at once.

    What was in `path` before is kept as `previous`, if that is given. Raises `UserError` when
    the folder cannot be written, `RunFailed` when the disk is full; `path` is then as it was.
    """
    ensure_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=STALE_SUFFIX)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(file_mode())
        if previous is not None and path.exists():
            _keep_as(path, previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritten(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` whole, as UTF-8."""
    write_whole(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, document: Any) -> None:
    """Write `document` whole, as indented JSON in the order in which its keys come."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(
    path: Path, what: str = "", *, unreadable_cure: str = "", damaged_cure: str = ""
) -> Any:
    """The document in a JSON file, which a message calls a `what`.

    Raises `UserError` when it can't be read or is not JSON, each with its cure.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        unreadable = f"Cannot read {what} {path}" if what else f"{path} can't be read"
        raise UserError(f"{unreadable} ({error.strerror}). {unreadable_cure}".rstrip()) from error
    except ValueError as error:  # not JSON, or not UTF-8
        named = f"{what.capitalize()} {path}" if what else f"{path}"
        raise UserError(f"{named} is not JSON: {error}. {damaged_cure}".rstrip()) from error


def append_line(path: Path, document: Any) -> None:
    """Append one JSON line to a journal and have it on the disk before returning.

    A torn last line, left by a process that died while writing, is closed first so that it
    can't swallow this one.
    """
    ensure_folder(path.parent)
    line = json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        with path.open("ab+") as stream:
            if stream.tell() and not _ends_with_newline(stream):
                line = "\n" + line
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise (unwritten if error.errno in NO_ROOM else unwritable)(path, error) from error


def read_lines(path: Path) -> tuple[list[Any], int]:
    """The documents of a journal, and how many lines were torn and left out."""
    if not path.exists():
        return [], 0
    documents, torn = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            documents.append(json.loads(line))
        except json.JSONDecodeError:
            torn += 1
    return documents, torn


def ensure_folder(folder: Path) -> None:
    """Make `folder` and what is above it; `UserError` says when it can't be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError("Permission denied"))


def unwritable(path: Path, error: OSError) -> UserError:
    """The sentence for a place that can't be written, with its cure."""
    reason = error.strerror or str(error)
    return UserError(
        f"Cannot write to {path} ({reason}). Choose another folder, or give yourself write access."
    )


def unwritten(path: Path, error: OSError) -> RunFailed:
    """The sentence for a file that could not be finished, most often because the disk is full."""
    reason = error.strerror or str(error)
    return RunFailed(
        f"Cannot write {path} ({reason}). What was saved before is kept; make room "
        "and give the same command again."
    )


def _keep_as(path: Path, previous: Path) -> None:
    """Give `path`'s content the second name `previous`; without hard links, the only one."""
    second = previous.with_name(previous.name + STALE_SUFFIX)
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        path.replace(previous)
        return
    second.replace(previous)


def file_mode() -> int:
    """The permissions of a file that a program makes, as the user's umask has it."""
    current = os.umask(0)
    os.umask(current)
    return 0o666 & ~current


def _ends_with_newline(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
