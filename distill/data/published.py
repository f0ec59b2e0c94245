"""CIFAR-10, CIFAR-100 and Fashion-MNIST in their publishers' formats, as torchvision reads them.

torchvision also fetches them where there is a network; without one, the files must be there.
"""

import gzip
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from distill.base.errors import UserError, in_short
from distill.base.files import write_whole
from distill.base.reading import open_plain
from distill.base.units import MIB, bytes_text
from distill.data.dataset import Dataset, Split, split
from distill.spec.image_folder import Part

FASHION_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
MOST_FASHION_BYTES = 64 * MIB
"""The largest of the four, unpacked, has 45 MiB."""

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the four files."""


DAMAGES = (
    *(OSError, RuntimeError, ValueError, AssertionError, EOFError, LookupError, TypeError),
    *(AttributeError, ArithmeticError, MemoryError, pickle.UnpicklingError, zlib.error),
)
"""What torchvision raises for files that are not there or damaged."""


def load_published(name: str, data_dir: Path, *, seed: int) -> Dataset:
    """`cifar10`, `cifar100` or `fashion_mnist`; validation is held out of the training images.

    Raises `UserError` when the files are damaged, or are not there and can't be fetched.
    """
    open_set = {"cifar10": CIFAR10, "cifar100": CIFAR100, "fashion_mnist": FashionMNIST}[name]
    if name == "fashion_mnist":
        _unpack_fashion(data_dir)
    train, test = (_read(name, open_set, data_dir, train=train) for train in (True, False))
    parts: dict[Part, Split] = {"train": _part(name, train), "test": _part(name, test)}
    return split(name, tuple(train.classes), parts, seed=seed)


def _read(name: str, open_set: Callable[..., Any], data_dir: Path, *, train: bool) -> Any:
    try:
        return open_set(str(data_dir), train=train, download=True)
    except DAMAGES as error:
        raise UserError(
            f"{name} is not in {data_dir}, or is damaged, and can't be fetched "
            f"({type(error).__name__}: {in_short(error)}). Connect to the network once, or put "
            "its files there and name the folder with --data-dir."
        ) from error


def _part(name: str, raw: Any) -> Split:
    """torchvision's `data` is (N, S, S, 3), or (N, S, S) without colours.

    Raises `UserError` where a label is no class, or there is not one for each image.
    """
    images, labels = np.asarray(raw.data, dtype=np.uint8), np.asarray(raw.targets, dtype=np.int64)
    numbers = np.unique(labels)
    if labels.shape != images.shape[:1] or not set(numbers.tolist()) <= set(
        range(len(raw.classes))
    ):
        raise UserError(f"{name} is damaged: its labels do not fit its images. Fetch it again.")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Split(np.ascontiguousarray(images), labels)


def _unpack_fashion(data_dir: Path) -> None:
    """Put the files where torchvision looks, from packed ones in `data_dir` or Debian's."""
    raw = data_dir / "FashionMNIST" / "raw"
    missing = [name for name in FASHION_FILES if not (raw / name).exists()]
    for folder in (data_dir, DEBIAN_FASHION):
        packed = {name: folder / f"{name}.gz" for name in missing}
        if missing and all(path.exists() for path in packed.values()):
            for name, path in packed.items():
                _unpack(path, raw / name)
            return


def _unpack(packed: Path, target: Path) -> None:
    try:
        with open_plain(packed) as stream, gzip.open(stream) as source:
            content = source.read(MOST_FASHION_BYTES + 1)
        if len(content) > MOST_FASHION_BYTES:
            raise OSError(f"it unpacks to more than {bytes_text(MOST_FASHION_BYTES)}")
        write_whole(target, lambda stream: stream.write(content))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Cannot unpack {packed}: {error}. Fetch it again.") from error
