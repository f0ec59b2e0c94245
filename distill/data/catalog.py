"""What data sets there are: classes, channels and pixels, known without loading a byte of them.

No torch, no numpy; `load` brings the images in.
"""

from dataclasses import dataclass
from pathlib import Path

from distill.errors import UserError

FOLDER_PREFIX = "folder:"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1
"""What is held out of a set that comes in one piece; of one with test images only the latter."""


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


_KNOWN = {
    info.name: info
    for info in (
        DatasetInfo(name="digits", classes=10, channels=1, source_size=8, train_images=1259),
        DatasetInfo(name="cifar10", classes=10, channels=3, source_size=32, train_images=45_000),
    )
}


def dataset_info(name: str, image_size: int) -> DatasetInfo:
    """The facts of a data set; of a folder, its images are stored in the model's size.

    Raises `UserError` for an unknown name, and for a folder with fewer than two classes.
    """
    if name.startswith(FOLDER_PREFIX):
        sizes = [len(images_in(folder)) for folder in class_folders(folder_of(name))]
        return DatasetInfo(
            name=name,
            classes=len(sizes),
            channels=3,
            source_size=image_size,
            train_images=sum(size - sum(held_out(size)) for size in sizes),
        )
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


def images_in(folder: Path) -> list[Path]:
    """The images of one class, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(
            f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). "
            "Each folder of the data set is one class and needs images."
        )
    return files


def held_out(rows: int, fractions: tuple[float, ...] = (TEST_FRACTION, VAL_FRACTION)) -> list[int]:
    """How many of a class's rows each held-out part gets: its fraction, but at least one."""
    return [max(1, round(fraction * rows)) for fraction in fractions]


def safe_name(name: str) -> str:
    """A data set's name as a folder name."""
    return folder_of(name).resolve().name if name.startswith(FOLDER_PREFIX) else name
