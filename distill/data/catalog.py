"""What data sets there are: classes, channels and pixels, known without loading a byte of them.

No torch, no numpy; `load` brings the images in.
"""

from dataclasses import dataclass
from pathlib import Path

from distill.errors import UserError

FOLDER_PREFIX = "folder:"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`source_size` is the width of the square images as they are stored."""

    name: str
    classes: int
    channels: int
    source_size: int


_KNOWN = {
    "digits": DatasetInfo(name="digits", classes=10, channels=1, source_size=8),
    "cifar10": DatasetInfo(name="cifar10", classes=10, channels=3, source_size=32),
}


def dataset_info(name: str, image_size: int) -> DatasetInfo:
    """The facts of a data set; of a folder, its images are stored in the model's size.

    Raises `UserError` for an unknown name, and for a folder with fewer than two classes.
    """
    if name.startswith(FOLDER_PREFIX):
        classes = class_folders(folder_of(name))
        return DatasetInfo(name=name, classes=len(classes), channels=3, source_size=image_size)
    if name not in _KNOWN:
        raise UserError(
            f"Unknown data set {name!r}. There are: {', '.join(sorted(_KNOWN))}, "
            "and folder:DIR for a directory with one folder of images a class."
        )
    return _KNOWN[name]


def folder_of(name: str) -> Path:
    """The directory in `folder:DIR`."""
    return Path(name.removeprefix(FOLDER_PREFIX))


def class_folders(root: Path) -> list[Path]:
    """The folders of `root`, one a class, in the order of their names."""
    if not root.is_dir():
        raise UserError(f"{root} is not a directory. Name one that holds a folder for each class.")
    folders = sorted(child for child in root.iterdir() if child.is_dir())
    if len(folders) < 2:
        raise UserError(
            f"{root} holds {len(folders)} folder(s); a classifier needs at least two, "
            "each with the images of one class."
        )
    return folders


def safe_name(name: str) -> str:
    """A data set's name as a folder name."""
    return folder_of(name).resolve().name if name.startswith(FOLDER_PREFIX) else name
