"""The known data sets: task, classes, channels and pixels, without loading a byte.

No torch, no numpy; `load` brings the images in.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean, did_you_mean_beside
from distill.spec.image_source import image_layout, is_own

Task = Literal["multi-class", "binary", "multi-label", "ordinal"]

MEDMNIST_SIZES = (28, 64, 128, 224)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`source_size` is the width of the square images as they are stored.

    `train_images` is how many are trained on, after validation and test were held out;
    `validation_images` are looked at after each epoch.
    """

    name: str
    classes: int
    channels: int
    source_size: int
    train_images: int
    validation_images: int
    task: Task = "multi-class"


_KNOWN = {
    info.name: info
    for info in (
        DatasetInfo(
            name="digits",
            classes=10,
            channels=1,
            source_size=8,
            train_images=1259,
            validation_images=179,
        ),
        DatasetInfo(
            name="cifar10",
            classes=10,
            channels=3,
            source_size=32,
            train_images=45_000,
            validation_images=5_000,
        ),
        DatasetInfo(
            name="cifar100",
            classes=100,
            channels=3,
            source_size=32,
            train_images=45_000,
            validation_images=5_000,
        ),
        DatasetInfo(
            name="fashion_mnist",
            classes=10,
            channels=1,
            source_size=28,
            train_images=54_000,
            validation_images=6_000,
        ),
    )
}

_MEDMNIST: dict[str, tuple[Task, int, int, int, int]] = {
    "pathmnist": ("multi-class", 9, 3, 89_996, 10_004),
    "chestmnist": ("multi-label", 14, 1, 78_468, 11_219),
    "dermamnist": ("multi-class", 7, 3, 7_007, 1_003),
    "octmnist": ("multi-class", 4, 1, 97_477, 10_832),
    "pneumoniamnist": ("binary", 2, 1, 4_708, 524),
    "retinamnist": ("ordinal", 5, 3, 1_080, 120),
    "breastmnist": ("binary", 2, 1, 546, 78),
    "bloodmnist": ("multi-class", 8, 3, 11_959, 1_712),
    "tissuemnist": ("multi-class", 8, 1, 165_466, 23_640),
    "organamnist": ("multi-class", 11, 1, 34_561, 6_491),
    "organcmnist": ("multi-class", 11, 1, 12_975, 2_392),
    "organsmnist": ("multi-class", 11, 1, 13_932, 2_452),
}
"""Task, classes, channels, images to train on and to validate with, as in medmnist's own `INFO` (a
test compares). All parts are the publisher's."""


def dataset_info(name: str, image_size: int) -> DatasetInfo:
    """The facts of a data set; of a folder, its images are stored in the model's size.

    Raises `UserError` for an unknown name, and for a folder with fewer than two classes.
    """
    if is_own(name):
        layout = image_layout(name)
        return DatasetInfo(
            name=name,
            classes=len(layout.classes),
            channels=3,
            source_size=image_size,
            train_images=layout.train_images,
            validation_images=layout.validation_images,
        )
    flag, size = medmnist_name(name)
    if flag is not None:
        task, classes, channels, train_images, validation_images = _MEDMNIST[flag]
        return DatasetInfo(
            name=name,
            classes=classes,
            channels=channels,
            source_size=size,
            train_images=train_images,
            validation_images=validation_images,
            task=task,
        )
    if name not in _KNOWN:
        if "/" in name or name.startswith((".", "~")):
            raise UserError(
                f"{name} is no data set{_missing(name)}.{_near(name)} A directory with one folder "
                "of images a class is named folder:DIR, and a list csv:FILE."
            )
        raise UserError(
            f"Unknown data set {name!r}.{_near(name)} There are: {', '.join(sorted(_KNOWN))}, "
            f"{', '.join(_MEDMNIST)} (28 px; others as in pathmnist_64, _128, _224), "
            "folder:DIR for a directory with one folder of images a class, in train, val and test "
            "if it comes in parts, and csv:FILE for a list with columns file and label."
        )
    return _KNOWN[name]


def _missing(name: str) -> str:
    with suppress(OSError, ValueError):  # of what is no path at all
        if Path(name).exists():
            return ""
    return ", and nothing is there"


def _near(name: str) -> str:
    """What may have been meant by a name: a set, one of a size, or a folder or list that is there.

    Looks for `name` as a path.
    """
    with suppress(OSError, ValueError):  # of what is no path at all
        if Path(name).is_dir():
            return f" Did you mean folder:{name}?"
        if Path(name).is_file() and name.lower().endswith((".csv", ".tsv")):
            return f" Did you mean csv:{name}?"
        if name.lower().endswith((".csv", ".tsv")):
            return did_you_mean_beside(Path(name), prefix="csv:")
    size = name.rpartition("_")[2]
    of_size = [f"{known}_{size}" for known in _MEDMNIST] if size.isdecimal() else [*_MEDMNIST]
    known = did_you_mean(name, [*_KNOWN, *of_size])
    return known or did_you_mean_beside(Path(name), folder=True, prefix="folder:")


def is_published(name: str) -> bool:
    """True if `name` is that of a published set. Raises `UserError` for a size it hasn't."""
    return name in _KNOWN or medmnist_name(name)[0] is not None


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
