"""Image files decoded once, and kept as one memory-mapped file of uint8.

The file's name holds a hash of the images' paths, sizes and times, so that it is made again
when they change. A small file beside it keeps what was found while decoding. An image that can't
be read stops it before anything is written in place, or is left out where that is asked for.
`images.white_of` decides the scale of grey.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.files import STALE_SUFFIX, check_output, file_mode, unwritable, write_text
from distill.base.reading import open_plain
from distill.base.signals import undone_at_once
from distill.base.units import bytes_text
from distill.data.ahead import in_order
from distill.data.copies import equal_rows
from distill.data.images import (
    WHITE_OF_SIXTEEN_BITS,
    DeepValues,
    UnreadableImage,
    read_image,
    scale_told,
    white_of,
)
from distill.data.sealed_array import blank_array, read_sealed, seal
from distill.spec.frozen import FrozenModel
from distill.spec.image_files import count_of
from distill.spec.validated import read_as, reason_of

DECODERS = 2
"""Threads that decode; PIL lets others run while it does."""

NAMED = 3
"""How many unreadable images a message names."""

RULES = "2"
"""The version of the rules that decode; images that others decoded are made anew."""


class Findings(FrozenModel):
    """What decoding found: `notes` for the user, and `copies`, rows of files that are the same.

    `unreadable` rows are black; each has the sentence that says why.
    """

    notes: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]
    unreadable: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class _Decoded:
    """What is known of one file: its first picture is in its row of the array."""

    animated: bool
    deep: DeepValues | None
    digest: bytes


def first_reasons(unreadable: Sequence[str]) -> str:
    """Why the first few files can't be read, and how many more there are."""
    more = f"; and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    return "; ".join(unreadable[:NAMED]) + more


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How files are decoded: to squares of `image_size`, kept in `folder` under `prefix`.

    Files that can't be read are left out with `skip_unreadable`, else refused all at once.
    `between` is called after each image; what it raises ends the decoding.
    """

    image_size: int
    folder: Path
    prefix: str
    skip_unreadable: bool = False
    between: Callable[[], object] | None = None

    def decode(self, files: Sequence[Path]) -> tuple[NDArray[np.uint8], Findings]:
        """The images (files, 3, S, S) in the order of the files, decoded now or before.

        Raises `UserError` for images that can't be read and a disk without room.
        """
        marks = [_mark(path) for path in files]
        target = self.folder / f"{self.prefix}{digest_of([RULES, *marks])[:16]}.npy"
        shape = (len(files), 3, self.image_size, self.image_size)
        kept = _kept(target, shape)
        if kept is None:
            kept = self._decode(files, target, shape), np.load(target, mmap_mode="r")
            for old in target.parent.glob(f"{self.prefix}*"):
                if old.stem != target.stem and old.suffix in (".npy", ".json"):
                    old.unlink()
        findings, images = kept
        self._refuse(findings, len(files))
        return images, findings

    def _refuse(self, findings: Findings, images: int) -> None:
        """Refuse images that can't be read, unless they are to be left out."""
        if not findings.unreadable:
            return
        told = [reason for _, reason in findings.unreadable]
        if len(told) == images:
            which = "The only image can't" if images == 1 else f"None of the {images:,} images can"
            raise UserError(f"{which} be read: {told[0]}.")
        if self.skip_unreadable:
            return
        raise UserError(
            f"Cannot read {len(told):,} of {count_of(images, 'image')}: {first_reasons(told)}. "
            "Replace or remove them, or leave them out: --skip-unreadable."
        )

    def _decode(self, files: Sequence[Path], target: Path, shape: tuple[int, ...]) -> Findings:
        """Decode all images into one file, whole or not at all; returns what was found."""
        if check_output(target):
            raise UserError(f"{target} is no plain file. Remove it.")
        _remove_abandoned(target.parent)
        _check_room(int(np.prod(shape)), target.parent)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=STALE_SUFFIX)
        fcntl.flock(handle, fcntl.LOCK_EX)
        temporary = Path(name)
        try:
            with undone_at_once(partial(temporary.unlink, missing_ok=True)):
                images = blank_array(temporary, shape, np.dtype(np.uint8))
                findings = self._fill(images, files)
                self._refuse(findings, len(files))
                images.flush()
                del images
                seal(temporary)
                temporary.chmod(file_mode())
                write_text(target.with_suffix(".json"), findings.model_dump_json())
                temporary.replace(target)
        except OSError as error:
            raise unwritable(target, error) from error
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)
        return findings

    def _fill(self, images: NDArray[np.uint8], files: Sequence[Path]) -> Findings:
        """Decode every file into its row, grey of more than 8 bits by the scale of all of it."""

        def decode(row: int, white: int = WHITE_OF_SIXTEEN_BITS) -> _Decoded | UnreadableImage:
            try:
                picture = read_image(files[row], self.image_size, white)
                with open_plain(files[row]) as stream:
                    digest = hashlib.file_digest(stream, "sha256").digest()
            except UnreadableImage as error:
                return error
            except OSError as error:
                return UnreadableImage(f"{files[row]}: {error.strerror}")
            images[row] = picture.pixels
            return _Decoded(picture.animated, picture.deep, digest)

        outcomes = self._all_of(decode, range(len(files)))
        decoded = {row: one for row, one in enumerate(outcomes) if isinstance(one, _Decoded)}
        notes = []
        if animated := sum(one.animated for one in decoded.values()):
            notes.append(f"{animated} image(s) are animated; the first picture of each is used.")
        deep = {row: one.deep for row, one in decoded.items() if one.deep is not None}
        if deep:
            white = white_of(deep.values())
            grey = [row for row, values in deep.items() if not values.coloured]
            if grey and white != WHITE_OF_SIXTEEN_BITS:
                self._all_of(lambda row: decode(row, white), grey)
            if grey:
                notes.append(scale_told([deep[row] for row in grey], white))
        return Findings(
            notes=tuple(notes),
            copies=equal_rows({row: one.digest for row, one in decoded.items()}),
            unreadable=tuple(
                (row, _text(one)) for row, one in enumerate(outcomes) if row not in decoded
            ),
        )

    def _all_of(
        self, work: Callable[[int], _Decoded | UnreadableImage], rows: Sequence[int]
    ) -> list[_Decoded | UnreadableImage]:
        """The outcome of each row, with a bar on a terminal."""
        outcomes = []
        for outcome in tqdm(
            in_order(work, rows, DECODERS),
            total=len(rows),
            desc="decoding images, once",
            disable=not sys.stderr.isatty(),
            leave=False,
        ):
            outcomes.append(outcome)
            if self.between is not None:
                self.between()
        return outcomes


def digest_of(lines: Sequence[str]) -> str:
    """A hash of lines, paths among them."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _text(error: object) -> str:
    """What an error says, as text that a file can hold, though a path may be none."""
    return str(error).encode(errors="replace").decode()


def _kept(target: Path, shape: tuple[int, ...]) -> tuple[Findings, NDArray[np.uint8]] | None:
    """What was found and decoded before; `None` where it has to be made anew, which is told."""
    if not os.path.lexists(target):
        return None
    try:
        findings = read_as(Findings, target.with_suffix(".json"))
        rows = [row for rows in findings.copies for row in rows]
        if not all(0 <= row < shape[0] for row in [*rows, *dict(findings.unreadable)]):
            raise ValueError("it names images that are not there")
        return findings, read_sealed(target, shape)
    except (UserError, OSError, ValueError) as error:
        why = reason_of(error)
        say(f"  data  {target} can't be trusted ({why}); the images are decoded anew")
        return None


def _remove_abandoned(folder: Path) -> None:
    """Delete what processes that were killed left behind: their files are locked no more."""
    for path in folder.glob(f"*{STALE_SUFFIX}"):
        with contextlib.suppress(OSError), open_plain(path) as stream:  # another has it
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def _check_room(size_bytes: int, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise UserError(
            f"The decoded images take {bytes_text(size_bytes)} and {folder} has "
            f"{bytes_text(free_bytes)} free. Make room, choose another place with --data-dir, or a "
            "smaller image size."
        )


def _mark(path: Path) -> str:
    """Path, size and time of a file, by which a changed image is noticed; one may be gone."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}\0{error.strerror}"
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
