"""A folder of images by class: decoded once, kept as one memory-mapped file of uint8.

The file's name holds a hash of the images' paths, sizes and times, so that it is made again
when they change. A small file beside it keeps what was found while decoding. An image that can't
be read stops it before anything is written in place. `image_folder` decides which files are images
of what, `images.white_of` the scale of their grey.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tqdm import tqdm

from distill.base.errors import UserError
from distill.base.files import STALE_SUFFIX, ensure_folder, file_mode, unwritable, write_text
from distill.base.units import bytes_text
from distill.data.ahead import in_order
from distill.data.copies import copies_told, equal_rows
from distill.data.dataset import Dataset, Split, split
from distill.data.images import (
    WHITE_OF_SIXTEEN_BITS,
    DeepValues,
    UnreadableImage,
    read_image,
    white_of,
)
from distill.spec.frozen import FrozenModel
from distill.spec.image_files import count_of
from distill.spec.image_folder import Layout, Part, folder_of, layout_of, safe_name

DECODERS = 2
"""Threads that decode; PIL lets others run while it does."""

NAMED = 3
"""How many unreadable images a message names."""

RULES = "2"
"""The version of the rules that decode; images that others decoded are made anew."""


class Findings(FrozenModel):
    """What decoding found: `notes` for the user, and `copies`, rows of files that are the same."""

    notes: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Decoded:
    """What is known of one file: its first picture is in its row of the array."""

    animated: bool
    deep: DeepValues | None
    digest: bytes


def load_folder(
    name: str,
    image_size: int,
    data_dir: Path,
    *,
    seed: int,
    between: Callable[[], object] | None = None,
) -> Dataset:
    """`folder:DIR` as a data set, its images (3, image_size, image_size).

    `between` is called after each image; what it raises ends the decoding.

    Raises `UserError` for images that can't be read and a disk without room.
    """
    layout = layout_of(folder_of(name))
    files = [path for part in layout.parts.values() for paths in part.values() for path in paths]
    prefix = f"{safe_name(name)}-{_digest([str(folder_of(name).resolve())])[:8]}-{image_size}px-"
    target = data_dir / "folders" / f"{prefix}{_digest([RULES, *_marks(files)])[:16]}.npy"
    findings = _kept_findings(target, len(files))
    if findings is None:
        findings = _decode(files, image_size, target, between)
        for old in target.parent.glob(f"{prefix}*"):
            if old.stem != target.stem and old.suffix in (".npy", ".json"):
                old.unlink()
    parts = _parts(np.load(target, mmap_mode="r"), layout)
    data = split(name, layout.classes, parts, seed=seed, decided=layout.decided)
    return replace(data, notes=(*findings.notes, *copies_told(findings.copies, data)))


def _kept_findings(target: Path, images: int) -> Findings | None:
    """What was found when `target` was made; `None` where it has to be made anew."""
    if not target.exists():
        return None
    try:
        kept = Findings.model_validate_json(target.with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return None
    known = all(0 <= row < images for rows in kept.copies for row in rows)
    return kept if known else None


def _parts(images: NDArray[np.uint8], layout: Layout) -> dict[Part, Split]:
    """The images of each part with their class numbers, in the order in which they lie."""
    number_of = {label: number for number, label in enumerate(layout.classes)}
    found: dict[Part, Split] = {}
    start = 0
    for part, by_class in layout.parts.items():
        numbers = np.array([number_of[label] for label in by_class], dtype=np.int64)
        labels = numbers.repeat([len(files) for files in by_class.values()])
        rows = np.arange(start, start + len(labels))
        found[part], start = Split(images, labels, rows), start + len(labels)
    return found


def _decode(
    files: Sequence[Path],
    image_size: int,
    target: Path,
    between: Callable[[], object] | None,
) -> Findings:
    """Decode all images into one file, whole or not at all; returns what was found."""
    ensure_folder(target.parent)
    shape = (len(files), 3, image_size, image_size)
    _remove_abandoned(target.parent)
    _check_room(int(np.prod(shape)), target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=STALE_SUFFIX)
    fcntl.flock(handle, fcntl.LOCK_EX)
    temporary = Path(name)
    try:
        images = _blank_file(temporary, shape)
        findings = _fill(images, files, image_size, between)
        images.flush()
        del images
        temporary.chmod(file_mode())
        write_text(target.with_suffix(".json"), findings.model_dump_json())
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
    return findings


def _remove_abandoned(folder: Path) -> None:
    """Delete what processes that were killed left behind: their files are locked no more."""
    for path in folder.glob(f"*{STALE_SUFFIX}"):
        with path.open("rb") as stream, contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def _blank_file(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """A memory-mapped array on blocks that the disk has: if it is full, it says so here."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return images


def _fill(
    images: NDArray[np.uint8],
    files: Sequence[Path],
    image_size: int,
    between: Callable[[], object] | None,
) -> Findings:
    """Decode every file into its row, grey of more than 8 bits by the scale of all of it."""

    def decode(row: int, white: int = WHITE_OF_SIXTEEN_BITS) -> _Decoded | UnreadableImage:
        try:
            picture = read_image(files[row], image_size, white)
        except UnreadableImage as error:
            return error
        images[row] = picture.pixels
        with files[row].open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
        return _Decoded(picture.animated, picture.deep, digest)

    outcomes = _all_of(decode, range(len(files)), between)
    decoded = [outcome for outcome in outcomes if isinstance(outcome, _Decoded)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, UnreadableImage)]
    if failures:
        raise _unreadable(failures, len(files))
    notes = []
    if animated := sum(one.animated for one in decoded):
        notes.append(f"{animated} image(s) are animated; the first picture of each is used.")
    deep = {row: one.deep for row, one in enumerate(decoded) if one.deep is not None}
    if deep:
        white = white_of(deep.values())
        grey = [row for row, values in deep.items() if not values.coloured]
        if grey and white != WHITE_OF_SIXTEEN_BITS:
            _all_of(lambda row: decode(row, white), grey, between)
        if grey:
            notes.append(_scale_told([deep[row] for row in grey], white))
    copies = equal_rows([one.digest for one in decoded])
    return Findings(notes=tuple(notes), copies=copies)


def _scale_told(grey: Sequence[DeepValues], white: int) -> str:
    lowest, highest = min(one.lowest for one in grey), max(one.highest for one in grey)
    return (
        f"{count_of(len(grey), 'grey image')} of more than 8 bits: values from {lowest:,} to "
        f"{highest:,}, read as {white.bit_length()} bits ({white:,} is white)."
    )


def _all_of(
    work: Callable[[int], _Decoded | UnreadableImage],
    rows: Sequence[int],
    between: Callable[[], object] | None,
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
        if between is not None:
            between()
    return outcomes


def _unreadable(failures: Sequence[UnreadableImage], images: int) -> UserError:
    listed = "; ".join(str(failure) for failure in failures[:NAMED])
    more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
    return UserError(
        f"Cannot read {len(failures)} of {images} images: {listed}{more}. Replace or remove them."
    )


def _check_room(size_bytes: int, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise UserError(
            f"The decoded images take {bytes_text(size_bytes)} and {folder} has "
            f"{bytes_text(free_bytes)} free. Make room, choose another place with --data-dir, or a "
            "smaller image size."
        )


def _marks(files: Sequence[Path]) -> list[str]:
    """Path, size and time of every file, by which changed images are noticed."""
    marks = []
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(
                f"{path} can't be read ({error.strerror}). Replace or remove it."
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is no file that holds an image. Replace or remove it.")
        marks.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
    return marks


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
