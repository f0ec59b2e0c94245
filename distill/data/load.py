"""Bringing a data set in: its images as uint8 arrays, split once and for all.

Splits never depend on the run's seed: the test images of one run are those of every run.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.data.dataset import Dataset, Split, split
from distill.data.folder import load_folder
from distill.spec.catalog import dataset_info, medmnist_name
from distill.spec.image_source import is_own

SPLIT_SEED = 20240229

DEFAULT_WORKERS = 2
"""Threads that read ahead where images come from a file; from memory none is needed."""


def load_dataset(
    name: str,
    image_size: int,
    data_dir: Path,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    between: Callable[[], object] | None = None,
) -> Dataset:
    """Load a data set by the name that `catalog` knows, `folder:DIR` or `csv:FILE`.

    `data_dir` is where downloaded sets live, and the memory-mapped files of those too large for
    memory. `workers` threads read ahead, by default two for memory-mapped images and none for
    others; the batches are the same. With `skip_unreadable` images of the user's own that can't be
    read are left out. `between` is called after each image of a folder that is
    decoded; what it raises ends that. Raises `UserError` for an unknown name, images that can't
    be read, classes too small to split, and a set that can't be fetched.
    """
    dataset_info(name, image_size)
    data = _load(name, image_size, data_dir, between, skip_unreadable=skip_unreadable)
    if workers is None:
        workers = DEFAULT_WORKERS if is_mapped(data.train) else 0
    return data.read_by(workers)


def is_mapped(part: Split) -> bool:
    """True if the images lie in a file and not in memory."""
    base: object = part.images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def _load(
    name: str,
    image_size: int,
    data_dir: Path,
    between: Callable[[], object] | None,
    *,
    skip_unreadable: bool,
) -> Dataset:
    if name == "digits":
        return _digits()
    if is_own(name):
        return load_folder(
            name,
            image_size,
            data_dir,
            seed=SPLIT_SEED,
            skip_unreadable=skip_unreadable,
            between=between,
        )
    flag, size = medmnist_name(name)
    if flag is not None:
        from distill.data.medical import load_medmnist  # loads pandas and scikit-learn: seconds

        return load_medmnist(flag, size, data_dir)
    from distill.data.published import load_published  # loads torchvision: seconds

    return load_published(name, data_dir, seed=SPLIT_SEED)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes seconds, and only this set needs it

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    whole = Split(images, raw.target.astype(np.int64))
    return split(
        "digits",
        tuple(str(label) for label in raw.target_names),
        {"train": whole},
        seed=SPLIT_SEED,
    )
