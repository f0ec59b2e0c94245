"""A folder of images by class: decoded once, kept as one memory-mapped file of uint8.

The file's name holds a hash of the images' paths, sizes and times, so that it is made again
when they change. An image that can't be read stops it before anything is written in place.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from distill.base.errors import UserError
from distill.base.files import STALE_SUFFIX, ensure_folder, file_mode, unwritable
from distill.base.units import bytes_text
from distill.data.ahead import in_order
from distill.data.dataset import Dataset, Split, split
from distill.data.images import UnreadableImage, read_image
from distill.spec.image_folder import Layout, Part, folder_of, layout_of, safe_name

DECODERS = 2
"""Threads that decode; PIL lets others run while it does."""

NAMED = 3
"""How many unreadable images a message names."""


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
    target = data_dir / "folders" / f"{prefix}{_digest(_marks(files))[:16]}.npy"
    notes = []
    if layout.ignored:
        notes.append(f"{layout.ignored} file(s) have no name of an image and are left out.")
    if not target.exists():
        notes += _decode(files, image_size, target, between)
        for old in target.parent.glob(f"{prefix}*.npy"):
            if old != target:
                old.unlink()
    parts = _parts(np.load(target, mmap_mode="r"), layout)
    return split(name, layout.classes, parts, seed=seed, notes=notes)


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
) -> tuple[str, ...]:
    """Decode all images into one file, whole or not at all; returns what the user should know."""
    ensure_folder(target.parent)
    shape = (len(files), 3, image_size, image_size)
    _remove_abandoned(target.parent)
    _check_room(int(np.prod(shape)), target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=STALE_SUFFIX)
    fcntl.flock(handle, fcntl.LOCK_EX)
    temporary = Path(name)
    try:
        images = _blank_file(temporary, shape)
        animated = _fill(images, files, image_size, between)
        images.flush()
        del images
        temporary.chmod(file_mode())
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
    if not animated:
        return ()
    return (f"{animated} image(s) are animated; the first picture of each is used.",)


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
) -> int:
    """Decode every file into its row; returns how many were animated."""

    def decode(row: int) -> bool | UnreadableImage:
        try:
            images[row], animated = read_image(files[row], image_size)
        except UnreadableImage as error:
            return error
        return animated

    outcomes = []
    for outcome in tqdm(
        in_order(decode, range(len(files)), DECODERS),
        total=len(files),
        desc="decoding images, once",
        disable=not sys.stderr.isatty(),
        leave=False,
    ):
        outcomes.append(outcome)
        if between is not None:
            between()
    failures = [outcome for outcome in outcomes if isinstance(outcome, UnreadableImage)]
    if failures:
        listed = "; ".join(str(failure) for failure in failures[:NAMED])
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        raise UserError(
            f"Cannot read {len(failures)} of {len(files)} images: {listed}{more}. "
            "Replace or remove them."
        )
    return sum(outcome is True for outcome in outcomes)


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
        marks.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
    return marks


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
