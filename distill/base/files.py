"""Writing files so that nothing half-written is ever left behind.

Whole files go through a temporary file, fsync and rename; journals are appended and fsynced
line by line. A torn last line of a journal is tolerated and reported, never repaired in place.
A link is followed and stays one. A pipe or a device is written to, never replaced (`streams`).
"""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from distill.base.errors import DistillError, RunFailed, UserError
from distill.base.signals import undone_at_once
from distill.base.streams import append_to_stream, is_stream, write_to_stream

STALE_SUFFIX = ".partial"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)

ACCESS = "Choose another folder, or give yourself write access."
"""The cure for a place that can't be written."""

KEPT_OF_A_NAME = 60
"""Characters of a file's name that its temporary file has too: a name has at most 255 bytes."""


def check_output(path: Path) -> bool:
    """Refuse a place that can't be written, before any work is done for it.

    A plain file, there or not, passes, and its folder is made; so do a pipe and a character
    device, of which this returns true. Raises `UserError` for anything else.
    """
    try:
        stream = is_stream(path)
    except OSError as error:
        raise unwritable(path, error, cure="Name another file.") from error
    if not stream:
        ensure_folder(followed(path).parent)
    return stream


def check_apart(outputs: Mapping[str, Path | None], *inputs: Path | str | None) -> None:
    """Refuse a plain file that would be written over another output, or over what is read.

    `outputs` are places by the option that names each. A pipe or a device takes several. Raises
    `UserError`, for what can't be written too (`check_output`).
    """
    taken = {os.path.realpath(path) for path in inputs if path}  # says nothing of a loop of links
    for option, path in outputs.items():
        if path is None or check_output(path):
            continue
        if os.path.realpath(path) in taken:
            raise UserError(
                f"{path} is named twice, and one would be written over the other. Name another "
                f"file for {option}."
            )
        taken.add(os.path.realpath(path))


def write_whole(
    path: Path, write: Callable[[BinaryIO], object], *, previous: Path | None = None
) -> None:
    """Call `write` on a temporary file beside `path`, then put it in `path`'s place at once.

    What was in `path` before is kept as `previous`, if that is given. A link is followed; a pipe
    or a device gets all bytes at once. Raises `UserError` when the place cannot be written,
    `RunFailed` when the disk is full; `path` is then as it was.
    """
    if check_output(path):
        try:
            write_to_stream(path, write)
        except OSError as error:
            raise unwritten(path, error) from error
        return
    place = followed(path)
    try:
        handle, name = tempfile.mkstemp(
            dir=place.parent, prefix=place.name[:KEPT_OF_A_NAME], suffix=STALE_SUFFIX
        )
    except OSError as error:
        raise unwritable(place.parent, error) from error
    temporary = Path(name)
    try:
        with undone_at_once(partial(temporary.unlink, missing_ok=True)):
            with os.fdopen(handle, "wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(file_mode())
            if previous is not None and place.exists():
                _keep_as(place, previous)
            temporary.replace(place)
            _sync_folder(place.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritten(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` whole, as UTF-8; of a file's name that is none its bytes are escaped."""
    write_whole(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def write_json(path: Path, document: Any) -> None:
    """Write `document` whole, as indented JSON in the order in which its keys come."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_line(path: Path, document: Any) -> None:
    """Append one JSON line to a journal and have it on the disk before returning.

    A torn last line, left by a process that died while writing, is closed first so that it
    can't swallow this one. A pipe or a device gets the line.
    """
    text = json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n"
    line = text.encode(errors="backslashreplace")
    stream_wanted = check_output(path)
    try:
        if stream_wanted:
            append_to_stream(path, line)
            return
        with path.open("ab+") as stream:
            if stream.tell() and not _ends_with_newline(stream):
                line = b"\n" + line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise not_written(path, error) from error


def written_name(path: Path | str) -> str:
    """A path as it may stand in a file: bytes that are no UTF-8 become `�`."""
    return os.fsencode(path).decode(errors="replace")


def followed(path: Path) -> Path:
    """The file that is meant by a path, there or not: a link is followed to its end."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def ensure_folder(folder: Path) -> None:
    """Make `folder` and what is above it; `UserError` says when it can't be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def check_folder(folder: Path) -> None:
    """Refuse a folder that can't be made or written in; make nothing yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise unwritable(folder, NotADirectoryError(errno.ENOTDIR, f"{there} is not a folder"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, "Permission denied"))


def unwritable(
    path: Path,
    error: OSError,
    *,
    cure: str = ACCESS,
) -> UserError:
    """The sentence for a place that can't be written, with its cure."""
    reason = error.strerror or str(error)
    return UserError(f"Cannot write to {path} ({reason}). {cure}")


def unwritten(path: Path, error: OSError) -> RunFailed:
    """The sentence for a file that could not be finished, most often because the disk is full."""
    reason = error.strerror or str(error)
    return RunFailed(
        f"Cannot write {path} ({reason}). What was saved before is kept; make room "
        "and give the same command again."
    )


def not_written(path: Path, error: OSError, *, cure: str = ACCESS) -> DistillError:
    """The sentence for a file that could not be written: for want of room, or of access."""
    if error.errno in NO_ROOM:
        return unwritten(path, error)
    return unwritable(path, error, cure=cure)


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
