"""What data sets there are: task, classes, channels and pixels, known without loading a byte.

No torch, no numpy; `load` brings the images in.
"""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from distill.errors import UserError

Task = Literal["multi-class", "binary", "multi-label", "ordinal"]

FOLDER_PREFIX = "folder:"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1
"""What is held out of a set that comes in one piece; of one with test images only the latter."""

SMALLEST_CLASS = 3
"""Images that a class of a folder needs: one each to train on, to validate with, to test with."""

MEDMNIST_SIZES = (28, 64, 128, 224)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`source_size` is the width of the square images as they are stored.

    `train_images` is how many are trained on, after validation and test were held out.
    """

    name: str
    classes: int
    channels: int
    source_size: int
    train_images: int
    task: Task = "multi-class"


_KNOWN = {
    info.name: info
    for info in (
        DatasetInfo(name="digits", classes=10, channels=1, source_size=8, train_images=1259),
        DatasetInfo(name="cifar10", classes=10, channels=3, source_size=32, train_images=45_000),
        DatasetInfo(name="cifar100", classes=100, channels=3, source_size=32, train_images=45_000),
        DatasetInfo(
            name="fashion_mnist", classes=10, channels=1, source_size=28, train_images=54_000
        ),
    )
}

_MEDMNIST: dict[str, tuple[Task, int, int, int]] = {
    "pathmnist": ("multi-class", 9, 3, 89_996),
    "chestmnist": ("multi-label", 14, 1, 78_468),
    "dermamnist": ("multi-class", 7, 3, 7_007),
    "octmnist": ("multi-class", 4, 1, 97_477),
    "pneumoniamnist": ("binary", 2, 1, 4_708),
    "retinamnist": ("ordinal", 5, 3, 1_080),
    "breastmnist": ("binary", 2, 1, 546),
    "bloodmnist": ("multi-class", 8, 3, 11_959),
    "tissuemnist": ("multi-class", 8, 1, 165_466),
    "organamnist": ("multi-class", 11, 1, 34_561),
    "organcmnist": ("multi-class", 11, 1, 12_975),
    "organsmnist": ("multi-class", 11, 1, 13_932),
}
"""Task, classes, channels and training images, as in medmnist's own `INFO` (a test compares).

Validation and test images are the publisher's.
"""


def dataset_info(name: str, image_size: int) -> DatasetInfo:
    """The facts of a data set; of a folder, its images are stored in the model's size.

    Raises `UserError` for an unknown name, and for a folder with fewer than two classes.
    """
    if name.startswith(FOLDER_PREFIX):
        sizes = [len(files) for files in images_by_class(folder_of(name)).values()]
        return DatasetInfo(
            name=name,
            classes=len(sizes),
            channels=3,
            source_size=image_size,
            train_images=sum(size - sum(held_out(size)) for size in sizes),
        )
    flag, size = medmnist_name(name)
    if flag is not None:
        task, classes, channels, train_images = _MEDMNIST[flag]
        return DatasetInfo(
            name=name,
            classes=classes,
            channels=channels,
            source_size=size,
            train_images=train_images,
            task=task,
        )
    if name not in _KNOWN:
        raise UserError(
            f"Unknown data set {name!r}. There are: {', '.join(sorted(_KNOWN))}, "
            f"{', '.join(_MEDMNIST)} (28 px; others as in pathmnist_64, _128, _224), "
            "and folder:DIR for a directory with one folder of images a class."
        )
    return _KNOWN[name]


def medmnist_name(name: str) -> tuple[str | None, int]:
    """The publisher's flag and size in `pathmnist` or `pathmnist_64`; `None` for another set."""
    match = re.fullmatch(r"([a-z]+)(?:_(\d+))?", name)
    if match is None or match[1] not in _MEDMNIST:
        return None, 0
    size = int(match[2] or 28)
    if size not in MEDMNIST_SIZES:
        sizes = ", ".join(str(known) for known in MEDMNIST_SIZES)
        raise UserError(f"{match[1]} does not come in {size} px. Sizes: {sizes}.")
    return match[1], size


def folder_of(name: str) -> Path:
    """The directory in `folder:DIR`."""
    return Path(name.removeprefix(FOLDER_PREFIX))


def images_by_class(root: Path) -> dict[str, list[Path]]:
    """The images of each folder of `root`, one folder a class, in the order of their names.

    Looked at once in a process, so that all who ask see the same images. Raises `UserError`
    for fewer than two folders, and for a folder with too few images to split.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a directory. Name one that holds a folder for each class.")
    return _scan(root.resolve(), root.stat().st_mtime_ns)


def held_out(rows: int, fractions: tuple[float, ...] = (TEST_FRACTION, VAL_FRACTION)) -> list[int]:
    """How many of a class's rows each held-out part gets: its fraction, but at least one."""
    return [max(1, round(fraction * rows)) for fraction in fractions]


def safe_name(name: str) -> str:
    """A data set's name as a folder name."""
    return folder_of(name).resolve().name if name.startswith(FOLDER_PREFIX) else name


@lru_cache(maxsize=4)
def _scan(root: Path, changed_ns: int) -> dict[str, list[Path]]:
    with os.scandir(root) as entries:
        names = sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )
    if len(names) < 2:
        raise UserError(
            f"{root} holds {len(names)} folder(s); a classifier needs at least two, "
            "each with the images of one class."
        )
    return {name: _images_below(root / name) for name in names}


def _images_below(folder: Path) -> list[Path]:
    files = sorted(
        Path(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES
    )
    if not files:
        raise UserError(
            f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). "
            "Each folder of the data set is one class and needs images."
        )
    if len(files) < SMALLEST_CLASS:
        raise UserError(
            f"Class {folder.name!r} has {len(files)} image(s); it needs at least {SMALLEST_CLASS}, "
            "so that training, validation and test each get one. Add images, or remove the class."
        )
    return files
