"""A folder of images: which file is an image of which class, and of which part of the data.

Either one folder a class, or `train`, `val` and `test` with one folder a class in each; what of
these a folder lacks is held out of its training images. Looks at names alone: `folder` decodes.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from distill.base.errors import UserError

Part = Literal["train", "val", "test"]

FOLDER_PREFIX = "folder:"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}

PART_OF: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""A directory that holds folders of these names only comes in parts."""

HELD_OUT: Mapping[Part, float] = {"test": 0.2, "val": 0.1}
"""How much of each class is held out of the training images where the data lack that part."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The images of a folder: `parts[part][label]` are files, in the order of their names.

    `ignored` files have no name of an image; hidden ones aside.
    """

    classes: tuple[str, ...]
    parts: Mapping[Part, Mapping[str, Sequence[Path]]]
    ignored: int

    @property
    def train_images(self) -> int:
        """The number of images to train on, after what the folder lacks was held out."""
        sizes = [len(files) for files in self.parts["train"].values()]
        return sum(size - sum(held_out(size, lacking(self.parts))) for size in sizes)


def lacking(parts: Collection[Part]) -> tuple[Part, ...]:
    """The parts that are to be held out of the training images."""
    return tuple(part for part in HELD_OUT if part not in parts)


def held_out(rows: int, parts: Sequence[Part]) -> list[int]:
    """The number of a class's rows for each held-out part: its fraction, but at least one."""
    return [max(1, round(HELD_OUT[part] * rows)) for part in parts]


def folder_of(name: str) -> Path:
    """The directory in `folder:DIR`."""
    return Path(name.removeprefix(FOLDER_PREFIX))


def whole_name(name: str) -> str:
    """A data set's name; a folder's with its whole path, which must be text."""
    if not name.startswith(FOLDER_PREFIX):
        return name
    path = folder_of(name).resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"The path {path!a} is not UTF-8. Rename that folder.") from error
    return f"{FOLDER_PREFIX}{path}"


def safe_name(name: str) -> str:
    """A data set's name as a folder name."""
    return folder_of(name).resolve().name if name.startswith(FOLDER_PREFIX) else name


def layout_of(root: Path) -> Layout:
    """The images of the folder `root`.

    Looked at once in a process, so that all who ask see the same images. Raises `UserError` for
    fewer than two classes, a class with too few images to split, and parts that do not agree.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a directory. Name one that holds a folder for each class.")
    return _scan(root.resolve(), root.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _scan(root: Path, changed_ns: int) -> Layout:
    folders = _parts_of(root)
    found = {part: _files_by_class(folder) for part, folder in folders.items()}
    images = {
        part: {label: _images_of(files) for label, files in by_class.items()}
        for part, by_class in found.items()
    }
    for part, by_class in images.items():
        _check_classes(folders[part], by_class, images["train"].keys())
    _check_sizes(images["train"], lacking(images))
    return Layout(
        classes=tuple(images["train"]), parts=images, ignored=_count(found) - _count(images)
    )


def _parts_of(root: Path) -> dict[Part, Path]:
    """The folder of each part; `train` alone, and the whole of `root`, where it has no parts."""
    names = _folders_of(root)
    if not names or not PART_OF.keys() >= {name.lower() for name in names}:
        return {"train": root}
    parts: dict[Part, Path] = {}
    for name in names:
        part = PART_OF[name.lower()]
        if part in parts:
            raise UserError(f"{root} holds both {parts[part].name} and {name}. Keep one of them.")
        parts[part] = root / name
    if "train" not in parts:
        raise UserError(f"{root} holds {', '.join(names)}, but no train. Name the folder above it.")
    return parts


def _folders_of(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def _files_by_class(root: Path) -> dict[str, list[Path]]:
    return {name: _files_below(root / name) for name in _folders_of(root)}


def _files_below(folder: Path) -> list[Path]:
    return sorted(
        Path(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )


def _images_of(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


def _check_classes(
    root: Path, by_class: Mapping[str, Sequence[Path]], classes: Collection[str]
) -> None:
    """Refuse too few classes, one without images, and one that is not trained on."""
    if len(classes) < 2:
        raise UserError(
            f"{root} holds {len(classes)} folder(s); a classifier needs at least two, "
            "each with the images of one class."
        )
    for label, files in by_class.items():
        if label not in classes:
            raise UserError(
                f"{root / label} holds a class that is not among the training images. "
                "Add it there, or remove it here."
            )
        if not files:
            raise UserError(
                f"{root / label} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). "
                "Each folder of the data set is one class and needs images."
            )


def _check_sizes(by_class: Mapping[str, Sequence[Path]], held: Sequence[Part]) -> None:
    """Refuse a class that has no image for each part that comes out of it."""
    parts = ("train", *held)
    for label, files in by_class.items():
        if len(files) < len(parts):
            raise UserError(
                f"Class {label!r} has {len(files)} image(s); it needs at least {len(parts)}, "
                f"one for each of {', '.join(parts)}. Add images, or remove the class."
            )


def _count(parts: Mapping[Part, Mapping[str, Sequence[Path]]]) -> int:
    return sum(len(files) for by_class in parts.values() for files in by_class.values())
