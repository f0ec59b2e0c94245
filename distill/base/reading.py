"""Reading files that nobody vouches for: plain ones only, up to a size, as bytes, text or JSON.

A pipe, a device or a socket is refused, never waited for. A document is refused before any of it
is used where it is nested too deep, or holds a number or a text that no file of this project has.
What its fields are is for `spec.validated` to say.
"""

import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.base.units import KIB, MIB, bytes_text

MOST_BYTES = 64 * MIB
"""Of a document. The largest that this project writes are recordings, of a few MiB."""

JOURNAL_BYTES = 256 * MIB
"""Of a journal, which grows with every probe: some hundred thousand trials."""

MOST_TOML_BYTES = 64 * KIB
"""Of a file that a person writes. Some texts of a MiB keep a parser of TOML busy for minutes."""

MOST_DEPTH = 32
"""Of a document. The deepest that this project writes, a verified profile, is 7 deep."""

MOST_SHOWN, MOST_OF_A_PLACE = 40, 120
"""Characters of a wrong value, and of its place, that a message has."""

LEAST, MOST = -(2**63), 2**63 - 1
"""Whole numbers of 64 bits."""

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file for reading. Raises `OSError` for anything else, and never waits."""
    try:
        _check_plain(path, path.stat().st_mode)
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except ValueError as error:  # NUL in its name, or a name that the system can't spell
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fspath(path)) from error
    _check_plain(path, os.fstat(stream.fileno()).st_mode)  # it may have been replaced meanwhile
    return stream


def read_plain(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a plain file. Raises `OSError`, also where it is longer than `most_bytes`."""
    with open_plain(path) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {bytes_text(most_bytes)}", os.fspath(path))
    return content


def read_text(
    path: Path,
    what: str = "",
    *,
    unreadable_cure: str = "",
    damaged_cure: str = "",
    most_bytes: int = MOST_BYTES,
) -> str:
    """The text of a UTF-8 file, which a message calls a `what`.

    Raises `UserError` when it can't be read or is no text, each with its cure.
    """
    try:
        return read_plain(path, most_bytes).decode("utf-8-sig")
    except OSError as error:
        unreadable = f"Cannot read {what} {path}" if what else f"{path} can't be read"
        near = did_you_mean_beside(path) if isinstance(error, FileNotFoundError) else ""
        words = f"{unreadable} ({error.strerror}).{near} {unreadable_cure}"
        raise UserError(words.rstrip()) from error
    except UnicodeDecodeError as error:
        words = f"is no text in UTF-8: {error.reason}"
        raise UserError(f"{named(path, what)} {words}. {damaged_cure}".rstrip()) from error


def read_json(
    path: Path, what: str = "", *, unreadable_cure: str = "", damaged_cure: str = ""
) -> Any:
    """The document in a JSON file, which a message calls a `what`.

    Raises `UserError` when it can't be read or is no document (`parsed_json`), each with its cure.
    """
    text = read_text(path, what, unreadable_cure=unreadable_cure, damaged_cure=damaged_cure)
    try:
        return parsed_json(text)
    except ValueError as error:
        raise UserError(f"{named(path, what)} {error}. {damaged_cure}".rstrip()) from error


def parsed_json(text: str | bytes) -> Any:
    """The document in a text. Raises `ValueError` with the rest of a sentence for what is none."""
    return _checked("JSON", json.loads, text)


def parsed_toml(text: str) -> Any:
    """The document in a text. Raises `ValueError` with the rest of a sentence for what is none."""
    return _checked("TOML", tomllib.loads, text)


def _checked(kind: str, parse: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        document = parse(text)
    except RecursionError as error:
        raise ValueError(f"is nested more than {MOST_DEPTH} deep") from error
    except ValueError as error:
        raise ValueError(f"is not {kind}: {error}") from error
    check_document(document)
    return document


def check_document(document: Any) -> None:
    """Refuse what no file of this project holds, with a `ValueError`: the rest of a sentence."""
    waiting = [iter((document,))]
    while waiting:
        for value in waiting[-1]:
            kind = type(value)  # most values are these, and there may be millions
            if (kind is int and LEAST <= value <= MOST) or (kind is str and value.isascii()):
                continue
            if isinstance(value, dict | list):
                waiting.append(
                    iter([*value, *value.values()] if isinstance(value, dict) else value)
                )
                break
            if _wrong(value) is not None:
                place, words = _located(document)
                raise ValueError(f"holds {place}{_shown(value)}, {words}")
        else:
            waiting.pop()
        if len(waiting) > MOST_DEPTH + 1:
            raise ValueError(f"is nested more than {MOST_DEPTH} deep")


def _wrong(value: Any) -> str | None:
    """What makes a key or a value impossible, in words."""
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else "half of a character"
    if isinstance(value, float):
        return None if math.isfinite(value) else "which is no number"
    if isinstance(value, int):
        return None if LEAST <= value <= MOST else "a whole number of more than 64 bits"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _located(document: Any, place: str = "", depth: int = 0) -> tuple[str, str]:
    """Where the first impossible key or value is, as `training.seed = `, and what is wrong."""
    words = _wrong(document)
    if words is not None or depth > MOST_DEPTH:
        return f"{place} = " if place else "", words or ""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        pairs = list(document.items() if isinstance(document, dict) else enumerate(document))
    for key, value in pairs:
        there = f"{place}.{key}".lstrip(".")[:MOST_OF_A_PLACE]
        found = "", _wrong(key) or ""
        if not found[1]:
            found = _located(value, there, depth + 1)
        if found[1]:
            return found
    return "", ""


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def read_lines(path: Path) -> tuple[list[Any], int]:
    """The documents of a journal, and how many lines were none, as a torn last one, and left out.

    Raises `UserError` where a journal is there that can't be read.
    """
    try:
        content = read_plain(path, JOURNAL_BYTES)
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UserError(f"Cannot read journal {path} ({error.strerror}).") from error
    documents, torn = [], 0
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            documents.append(parsed_json(line))
        except ValueError:
            torn += 1
    return documents, torn


def named(path: Path, what: str) -> str:
    """A file as the first words of a sentence."""
    return f"{what[:1].upper()}{what[1:]} {path}" if what else f"{path}"


def kind_of(mode: int) -> str:
    """What stands at a path, in words, by its mode: `a pipe`, `a folder`."""
    return KINDS.get(stat.S_IFMT(mode), "of an unknown kind")


def _check_plain(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a plain file", os.fspath(path))
