"""The twelve 2-D MedMNIST sets in the publisher's format, with the publisher's own splits.

Small ones are read by medmnist's own classes. Those read a whole array into memory, so of the
large ones (PathMNIST at 224 px: 15 GiB) the images are copied out of the archive once, piece by
piece, and memory-mapped.
"""

import math
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.utils import download_url

from distill.base.console import say
from distill.base.errors import UserError, in_short
from distill.base.files import ensure_folder, unwritable, write_whole
from distill.base.reading import open_plain
from distill.base.signals import undone_at_once
from distill.base.units import GIB, bytes_text
from distill.data.archive_members import DAMAGES, Member, array_members
from distill.data.dataset import Dataset, Split
from distill.data.sealed_array import read_sealed, write_sealed
from distill.spec.catalog import DatasetInfo, dataset_info

with warnings.catch_warnings():  # it warns of a folder in the home, which is not used here
    warnings.filterwarnings("ignore", "Failed to setup default root")
    import medmnist

IN_MEMORY_BYTES = GIB
"""Sets with more bytes of images than this are memory-mapped."""

PARTS = ("train", "val", "test")


def load_medmnist(flag: str, size: int, data_dir: Path) -> Dataset:
    """One of the sets at 28, 64, 128 or 224 px, as `flag` and `size` name it.

    Raises `UserError` when the archive is damaged, or is not there and can't be fetched.
    """
    name = flag if size == 28 else f"{flag}_{size}"
    info, facts = dataset_info(name, size), medmnist.INFO[flag]
    archive = _fetched(name, facts, size, data_dir)
    try:
        members = _checked_members(archive, info)
        if sum(_size_bytes(members[f"{part}_images"]) for part in PARTS) > IN_MEMORY_BYTES:
            arrays = {part: _mapped(archive, part, members) for part in PARTS}
        else:
            arrays = {part: _in_memory(facts, part, size, data_dir) for part in PARTS}
    except OSError as error:
        raise UserError(f"{archive} can't be read ({error.strerror or error}).") from error
    except DAMAGES as error:
        raise _damaged(archive, f"{type(error).__name__}: {in_short(error)}") from error
    train, val, test = (_checked(archive, info, *arrays[part]) for part in PARTS)
    classes = tuple(facts["label"].values())
    return Dataset(name=name, classes=classes, train=train, val=val, test=test, task=info.task)


def _fetched(name: str, facts: dict[str, Any], size: int, data_dir: Path) -> Path:
    """The archive, downloaded beside its place first, so that half of one is never taken."""
    archive = data_dir / f"{name}.npz"
    if archive.exists():
        return archive
    ensure_folder(data_dir)
    suffix = "" if size == 28 else f"_{size}"
    url, md5 = facts[f"url{suffix}"], facts[f"MD5{suffix}"]
    try:
        with (
            tempfile.TemporaryDirectory(dir=data_dir, prefix=name) as folder,
            undone_at_once(partial(shutil.rmtree, folder, ignore_errors=True)),
        ):
            download_url(url, folder, archive.name, md5)
            (Path(folder) / archive.name).replace(archive)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{archive.name} is not in {data_dir} and can't be fetched ({error}). Connect to the "
            f"network once, or put the publisher's file there ({url}) and name the folder with "
            "--data-dir."
        ) from error
    return archive


def _checked_members(archive: Path, info: DatasetInfo) -> Mapping[str, Member]:
    """The arrays of the archive by name, each of the type and shape that the publisher says."""
    with open_plain(archive) as stream:
        members = array_members(stream)
    pixels = (info.source_size, info.source_size, info.channels)[: 3 if info.channels > 1 else 2]
    answers = info.classes if info.task == "multi-label" else 1
    for part in PARTS:
        images, labels = members[f"{part}_images"], members[f"{part}_labels"]
        if images.dtype != np.uint8 or images.shape[1:] != pixels:
            raise ValueError(f"images are {images.dtype} {images.shape[1:]}, not uint8 {pixels}")
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype}, not whole numbers")
        if labels.shape != (*images.shape[:1], answers):
            raise ValueError(f"{labels.shape} labels for {images.shape[0]} images")
        if not images.shape[0]:
            raise ValueError(f"its part {part} holds no image")
    return members


def _size_bytes(member: Member) -> int:
    return member.dtype.itemsize * math.prod(member.shape)


def _in_memory(
    facts: dict[str, Any], part: str, size: int, data_dir: Path
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    read = getattr(medmnist, facts["python_class"])
    raw = read(split=part, root=str(data_dir), size=size)
    return _channels_first(raw.imgs), raw.labels


def _mapped(
    archive: Path, part: str, members: Mapping[str, Member]
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    """The images as a memory-mapped copy beside the archive, made once."""
    copy, shape = archive.with_suffix("") / f"{part}_images.npy", members[f"{part}_images"].shape
    images = _kept(copy, archive, shape)
    if images is None:
        _copy_out(archive, f"{part}_images.npy", copy)
        images = np.load(copy, mmap_mode="r")
    with np.load(archive) as opened:
        labels = opened[f"{part}_labels"]
    return _channels_first(images), labels


def _kept(copy: Path, archive: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The copy that was made before; `None` where it has to be made anew."""
    if not os.path.lexists(copy):
        return None
    try:
        if copy.stat().st_mtime < archive.stat().st_mtime:
            return None
        return read_sealed(copy, shape)
    except (OSError, ValueError) as error:
        say(f"  data  {copy} can't be trusted ({error}); it is made anew")
        return None


def _copy_out(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened, opened.open(member) as source:
        size_bytes = opened.getinfo(member).file_size
        ensure_folder(target.parent)
        free_bytes = shutil.disk_usage(target.parent).free
        if free_bytes < size_bytes:
            raise UserError(
                f"{member} of {archive} takes {bytes_text(size_bytes)} unpacked and the disk has "
                f"{bytes_text(free_bytes)} free. Make room, or use a smaller size of the set."
            )
        try:
            write_whole(target, lambda stream: write_sealed(source, stream))
        except OSError as error:
            raise unwritable(target, error) from error


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S, S) or (N, S, S, 3) as a view (N, C, S, S)."""
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _checked(
    archive: Path, info: DatasetInfo, images: NDArray[np.uint8], labels: NDArray[np.generic]
) -> Split:
    """A split of what the archive holds, if it is what the publisher says."""
    shape = (info.channels, info.source_size, info.source_size)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise _damaged(archive, f"images are {images.dtype} {images.shape[1:]}, not uint8 {shape}")
    multi_label = info.task == "multi-label"
    numbers = labels.astype(np.int64)
    if numbers.shape != (len(images), info.classes if multi_label else 1):
        raise _damaged(archive, f"{numbers.shape} labels for {len(images)} images")
    bound = 2 if multi_label else info.classes
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < bound:
        raise _damaged(archive, f"labels from {numbers.min()} to {numbers.max()}")
    return Split(images, numbers if multi_label else numbers[:, 0])


def _damaged(archive: Path, reason: str) -> UserError:
    return UserError(
        f"{archive} is not the publisher's file ({reason}). Remove it to fetch it again."
    )
