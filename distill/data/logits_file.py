"""A teacher's logits on disk: made piece by piece, memory-mapped when they are whole.

    logits.npy          (draws, images, classes), at its full size from the beginning
    progress.jsonl      what they are of (`LogitsKey`), then a line for each piece on the disk
    logits.json         the key once more, and the checksum of the whole array; written last

A process that is killed loses the piece that it was at. What the logits are of is compared before
any is read, and other logits are refused. Damaged ones are made anew, which is told.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.files import (
    append_line,
    check_output,
    ensure_folder,
    not_written,
    unwritable,
    write_json,
)
from distill.base.reading import open_plain, parsed_json, read_lines, read_plain
from distill.base.units import MIB, bytes_text
from distill.data.archive_members import DAMAGES, read_header
from distill.data.batches import TeacherLogits
from distill.data.logits_key import DTYPES, LogitsKey
from distill.data.sealed_array import blank_array
from distill.spec.candidate import Count
from distill.spec.frozen import FrozenModel
from distill.spec.validated import reason_of, validated

FOLDER = "teacher_logits"

CURE = "Give what it was begun with, or remove that folder: they are made anew then."
"""Removing it loses no training; a stage that has begun checks its teacher itself."""

REMOVE_IT = "Remove it, or give yourself access: they are made anew where it is gone."

Checksum = Annotated[int, Field(ge=0, lt=2**32)]


class _Whole(FrozenModel):
    """What `logits.json` says."""

    key: LogitsKey
    checksum: Checksum
    seconds: Annotated[float, Field(ge=0)]


class _Piece(FrozenModel):
    """A piece that is on the disk: up to which row of (draws · images), and its checksum."""

    end: Count
    checksum: Checksum
    seconds: Annotated[float, Field(ge=0)]


class LogitsFile:
    """The logits of one stage's teacher, in a folder of their own."""

    def __init__(self, folder: Path, key: LogitsKey) -> None:
        self.folder, self.key = folder, key
        self.array = folder / "logits.npy"
        self.whole = folder / "logits.json"
        self.progress = folder / "progress.jsonl"

    def read(self) -> TeacherLogits | None:
        """The logits, memory-mapped; `None` where they are not whole yet.

        Raises `UserError` for those of another teacher, other data or other views.
        """
        found = self._sealed()
        if found is None:
            return None
        self._check_same(found.key)
        try:
            values = self._mapped("r")
            if _checksum(values) != found.checksum:
                raise ValueError("its content is not what its checksum says")
        except (OSError, *DAMAGES) as error:
            self._tell_torn(self.array, error)
            self._remove(self.whole)
            return None
        return TeacherLogits(values=values, precision=self.key.precision, seconds=found.seconds)

    def begin(self) -> "LogitsWriter":
        """The logits as far as they are, to go on with.

        Raises `UserError` as `read` does, and for a disk without room.
        """
        ensure_folder(self.folder)
        pieces = self._pieces()
        if pieces:
            try:
                return LogitsWriter(self, self._mapped("r+"), pieces)
            except OSError as error:
                raise unwritable(self.array, error, cure=REMOVE_IT) from error
        if check_output(self.array):
            raise UserError(f"{self.array} is no plain file. Remove it.")
        self._check_room()
        try:
            values = blank_array(self.array, self.key.shape, DTYPES[self.key.precision])
        except OSError as error:
            raise not_written(self.array, error, cure=REMOVE_IT) from error
        self._remove(self.progress)
        append_line(self.progress, self.key.model_dump(mode="json"))
        return LogitsWriter(self, values, [])

    def _sealed(self) -> "_Whole | None":
        """What `logits.json` says, if it is there and whole."""
        if not os.path.lexists(self.whole):
            return None
        try:
            found: _Whole = validated(_Whole, parsed_json(read_plain(self.whole)))
        except OSError as error:
            raise UserError(
                f"{self.whole} can't be read ({error.strerror}). {REMOVE_IT}"
            ) from error
        except ValueError as error:
            self._tell_torn(self.whole, error)
            self._remove(self.whole)
            return None
        return found

    def _pieces(self) -> list[_Piece]:
        """The pieces that are on the disk as they were written, up to the first that is not."""
        try:
            documents, torn = read_lines(self.progress)
        except UserError as error:
            raise UserError(f"{error} {REMOVE_IT}") from error
        if not documents:
            return []
        try:
            begun: LogitsKey = validated(LogitsKey, documents[0])
        except ValueError as error:
            self._tell_torn(self.progress, error)
            return []
        self._check_same(begun)
        try:
            rows = _rows(self._mapped("r"))
        except (OSError, *DAMAGES) as error:
            self._tell_torn(self.array, error)
            return []
        good: list[_Piece] = []
        try:
            for document in documents[1:]:
                good.append(_next_piece(document, good[-1].end if good else 0, rows))
        except ValueError as error:
            self._tell_torn(self.array, error)
        if torn or len(good) < len(documents) - 1:
            self._remove(self.progress)
            for line in (self.key, *good):
                append_line(self.progress, line.model_dump(mode="json"))
        return good

    def _mapped(self, mode: Any) -> "np.memmap[Any, Any]":
        """The array. Raises `OSError`, and for what is no such array what `DAMAGES` lists."""
        with open_plain(self.array) as stream:
            found = read_header(stream)
            there = stream.seek(0, os.SEEK_END)
        wanted, dtype = self.key.shape, DTYPES[self.key.precision]
        if found.shape != wanted or found.dtype != dtype:
            raise ValueError(f"it holds {found.dtype} {found.shape}, not {dtype} {wanted}")
        if there < self.key.size_bytes:
            raise ValueError("its end is missing")
        return np.load(self.array, mmap_mode=mode)  # type: ignore[no-any-return]

    def _check_same(self, there: LogitsKey) -> None:
        """Refuse logits of something else."""
        here, other = self.key.model_dump(mode="json"), there.model_dump(mode="json")
        changed = [
            f"{name.replace('_', ' ')} {other[name]} there, {here[name]} here"
            for name in here
            if here[name] != other[name]
        ]
        if changed:
            raise UserError(
                f"{self.folder} holds a teacher's logits for something else "
                f"({'; '.join(changed)}). {CURE}"
            )

    def _tell_torn(self, file: Path, error: Exception) -> None:
        why = reason_of(error)
        say(f"  teacher  {file} can't be trusted ({why}); those logits are made anew")

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(file, error, cure=REMOVE_IT) from error

    def _check_room(self) -> None:
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < self.key.size_bytes:
            raise UserError(
                f"The teacher's logits take {bytes_text(self.key.size_bytes)} and {self.folder} "
                f"has {bytes_text(free_bytes)} free. Make room, or take fewer --teacher-views."
            )


class LogitsWriter:
    """Logits being made: rows of (draws · images), one after the other, and how far they are."""

    def __init__(
        self, file: LogitsFile, values: "np.memmap[Any, Any]", pieces: list[_Piece]
    ) -> None:
        self.file, self.values = file, values
        self.kept = self.done = pieces[-1].end if pieces else 0
        self.seconds = pieces[-1].seconds if pieces else 0.0

    @property
    def total(self) -> int:
        """Rows in all."""
        return self.file.key.views * self.file.key.images

    def add(self, logits: NDArray[Any], seconds: float) -> None:
        """The next rows (B, classes), which took so long."""
        _rows(self.values)[self.done : self.done + len(logits)] = logits
        self.done += len(logits)
        self.seconds += seconds

    def keep(self) -> None:
        """Have all rows so far on the disk, so that they need not be made again."""
        if self.kept == self.done:
            return
        try:
            self.values.flush()
        except OSError as error:
            raise not_written(self.file.array, error, cure=REMOVE_IT) from error
        piece = _Piece(
            end=self.done,
            checksum=_checksum(_rows(self.values)[self.kept : self.done]),
            seconds=self.seconds,
        )
        append_line(self.file.progress, piece.model_dump(mode="json"))
        self.kept = self.done

    def finish(self) -> None:
        """All rows are there: mark the logits as whole."""
        self.keep()
        whole = _Whole(key=self.file.key, checksum=_checksum(self.values), seconds=self.seconds)
        write_json(self.file.whole, whole.model_dump(mode="json"))
        self.file.progress.unlink(missing_ok=True)


def logits_begun(stage: Path) -> bool:
    """True if a stage's folder holds logits that took time."""
    folder = stage / FOLDER
    return any((folder / name).exists() for name in ("logits.json", "progress.jsonl"))


def logits_files(stage: Path) -> Iterator[Path]:
    """The files of the logits in a stage's folder."""
    for name in ("logits.json", "progress.jsonl", "logits.npy"):
        if (stage / FOLDER / name).exists():
            yield stage / FOLDER / name


def _next_piece(document: Any, begin: int, rows: NDArray[Any]) -> _Piece:
    """The piece that follows row `begin`. Raises `ValueError` where it is not as it was written."""
    piece: _Piece = validated(_Piece, document)
    whole = begin < piece.end <= len(rows)
    if not whole or _checksum(rows[begin : piece.end]) != piece.checksum:
        raise ValueError(f"row {begin:,} and on are not what was written")
    return piece


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    """(draws, images, classes) as (draws · images, classes)."""
    return values.reshape(-1, values.shape[-1])


def _checksum(values: NDArray[Any]) -> int:
    """CRC-32 of all numbers, read piece by piece."""
    checksum, rows = 0, _rows(values)
    together = max(1, MIB // max(1, rows.shape[-1] * rows.itemsize))
    for start in range(0, len(rows), together):
        checksum = zlib.crc32(rows[start : start + together].tobytes(), checksum)
    return checksum
