"""Bringing a data set in: its images as uint8 arrays, split once and for all.

Splits never depend on the run's seed: the test images of one run are those of every run.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.catalog import (
    FOLDER_PREFIX,
    VAL_FRACTION,
    class_folders,
    dataset_info,
    folder_of,
    images_in,
)
from distill.data.dataset import Dataset, Split, split, stratified_rows
from distill.errors import UserError

SPLIT_SEED = 20240229


def load_dataset(name: str, image_size: int, data_dir: Path) -> Dataset:
    """Load a data set by the name that `catalog` knows, or `folder:DIR`.

    `data_dir` is where downloaded sets live. Raises `UserError` for an unknown name, images
    that can't be read, classes too small to split, and a set that can't be fetched.
    """
    dataset_info(name, image_size)
    if name.startswith(FOLDER_PREFIX):
        return _folder(name, image_size)
    if name == "digits":
        return _digits()
    return _cifar10(data_dir)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    whole = Split(images, raw.target.astype(np.int64))
    return split(
        "digits",
        tuple(str(label) for label in raw.target_names),
        whole,
        seed=SPLIT_SEED,
    )


def _cifar10(data_dir: Path) -> Dataset:
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(str(data_dir), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"CIFAR-10 is not in {data_dir} and can't be fetched ({error}). Connect to the "
            "network once, or put its files there and name the folder with --data-dir."
        ) from error
    whole, test = (
        Split(part.data.transpose(0, 3, 1, 2), np.asarray(part.targets, dtype=np.int64))
        for part in parts
    )
    val, train = stratified_rows(whole.labels, (VAL_FRACTION,), SPLIT_SEED)
    return Dataset(
        name="cifar10",
        classes=tuple(parts[0].classes),
        train=whole.take(train),
        val=whole.take(val),
        test=test,
    )


def _folder(name: str, image_size: int) -> Dataset:
    folders = class_folders(folder_of(name))
    files = [(path, label) for label, folder in enumerate(folders) for path in images_in(folder)]
    images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)
    for row, (path, _) in enumerate(files):
        images[row] = _read_image(path, image_size)
    whole = Split(images, np.asarray([label for _, label in files], dtype=np.int64))
    return split(
        name,
        tuple(folder.name for folder in folders),
        whole,
        seed=SPLIT_SEED,
    )


def _read_image(path: Path, image_size: int) -> NDArray[np.uint8]:
    """One image as (3, S, S) uint8, its shorter side resized to S and the middle kept."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            rgb = ImageOps.fit(
                opened.convert("RGB"), (image_size, image_size), Image.Resampling.BICUBIC
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"Cannot read the image {path}: {error}. Replace or remove it.") from error
    return np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1)
