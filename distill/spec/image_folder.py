"""A folder of images: which file is an image of which class, and of which part of the data.

Either one folder a class, or `train`, `val` and `test` with one folder a class in each; what of
these a folder lacks is held out of its training images. Looks at names alone: `folder` decodes.
All that is decided from folders and names is decided here, and `Layout.decided` tells it. Where
two readings are possible the folder is refused.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.spec.image_files import (
    IMAGE_SUFFIXES,
    FilesBelow,
    all_below,
    count_of,
    left_out,
    listed,
    right_in,
)

Part = Literal["train", "val", "test"]

PARTS: tuple[Part, ...] = get_args(Part)

PART_OF: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The folders that are parts of the data, where they lie beside one another."""

HELD_OUT: Mapping[Part, float] = {"test": 0.2, "val": 0.1}
"""How much of each class is held out of the training images where the data lack that part."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The images of a folder: `parts[part][label]` are files, in the order of their names.

    `ignored` is what lies in the folder and is not used, a few words each.
    """

    classes: tuple[str, ...]
    parts: Mapping[Part, Mapping[str, Sequence[Path]]]
    ignored: tuple[str, ...] = ()

    @property
    def train_images(self) -> int:
        """The number of images to train on, after what the folder lacks was held out."""
        sizes = [len(files) for files in self.parts["train"].values()]
        return sum(size - sum(held_out(size, lacking(self.parts))) for size in sizes)

    @property
    def validation_images(self) -> int:
        """The number of images to validate with: the folder's own, or what is held out."""
        if "val" in self.parts:
            return sum(len(files) for files in self.parts["val"].values())
        return sum(sum(held_out(len(f), ("val",))) for f in self.parts["train"].values())

    @property
    def decided(self) -> str:
        """The parts that were found, what is held out, and what is not used, in one line."""
        words = []
        if len(self.parts) > 1:
            words.append(f"parts {', '.join(part for part in PARTS if part in self.parts)}")
        if held := [part for part in PARTS if part in lacking(self.parts)]:
            words.append(f"{' and '.join(held)} held out of the images to train on")
        if self.ignored:
            words.append(f"ignored: {', '.join(self.ignored)}")
        return "; ".join(words)


def lacking(parts: Collection[Part]) -> tuple[Part, ...]:
    """The parts that are to be held out of the training images."""
    return tuple(part for part in HELD_OUT if part not in parts)


def held_out(rows: int, parts: Sequence[Part]) -> list[int]:
    """The number of a class's rows for each held-out part: its fraction, but at least one."""
    return [max(1, round(HELD_OUT[part] * rows)) for part in parts]


def layout_of(root: Path) -> Layout:
    """The images of the folder `root`.

    Looked at once in a process, so that all who ask see the same images. Raises `UserError` for
    fewer than two classes, a class with too few images to split, parts that do not agree, and a
    folder that can be read in two ways.
    """
    if not root.is_dir():
        near = did_you_mean_beside(root, folder=True)
        raise UserError(
            f"{root} is not a directory.{near} Name one that holds a folder for each class."
        )
    return _scan(root.resolve(), root.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _scan(root: Path, changed_ns: int) -> Layout:
    folders, aside = _parts_of(root)
    found: dict[Part, dict[str, FilesBelow]] = {}
    beside: list[FilesBelow] = [] if folders == {"train": root} else [right_in(root)]
    for part, folder in folders.items():
        here = right_in(folder)
        beside.append(here)
        if part != "train" and not here.folders:  # pictures without labels are no such part
            aside.append(f"{folder.name}/ (no class folders, {count_of(here.loose, 'image')})")
            here.loose = 0
            continue
        found[part] = {name: all_below(folder / name, root) for name in here.folders}
        _check_unlike(folder, found[part])
    images = {
        part: {label: below.images for label, below in by_class.items()}
        for part, by_class in found.items()
    }
    for part, by_class in found.items():
        _check_classes(folders[part], by_class, images["train"].keys())
    check_sizes(images["train"], lacking(images))
    below = [below for by_class in found.values() for below in by_class.values()]
    return Layout(
        classes=tuple(images["train"]),
        parts=images,
        ignored=(*aside, *left_out(beside, below)),
    )


def _parts_of(root: Path) -> tuple[dict[Part, Path], list[str]]:
    """The folder of each part, and what lies beside them; `train` is all of `root` without parts.

    Folders of other names beside parts are left out if `train` and another part are there and
    `train` holds folders. Where `train` is there alone it could as well be a class.
    """
    names = right_in(root).folders
    named = [name for name in names if name.lower() in PART_OF]
    others = [name for name in names if name not in named]
    in_parts = [name for name in named if _is_of_folders(root / name)]
    if not named or (others and not in_parts):
        return {"train": root}, []
    parts: dict[Part, Path] = {}
    for name in named:
        part = PART_OF[name.lower()]
        if part in parts:
            raise UserError(f"{root} holds both {parts[part].name} and {name}. Keep one of them.")
        parts[part] = root / name
    if others and not (len(parts) > 1 and "train" in parts and parts["train"].name in in_parts):
        raise UserError(
            f"{root} holds {', '.join(in_parts)} with folders in it, beside {listed(others)}. If "
            f"that is a part of the data, move the others away; if it is a class, move its images "
            "right into it."
        )
    if "train" not in parts:
        raise UserError(f"{root} holds {', '.join(names)}, but no train. Name the folder above it.")
    return parts, [f"{name}/ ({_beside_parts(root / name)})" for name in others]


def _is_of_folders(folder: Path) -> bool:
    """True if it holds folders and no image of its own."""
    here = right_in(folder)
    return bool(here.folders) and not here.loose


def _beside_parts(folder: Path) -> str:
    parts = [name for name in right_in(folder).folders if name.lower() in PART_OF]
    return "nested copy" if parts else "no part"


def _check_unlike(root: Path, by_class: Mapping[str, FilesBelow]) -> None:
    """Refuse classes that hold the same folders: more likely those are the classes."""
    of_folders = {
        label: below.folders
        for label, below in by_class.items()
        if not below.loose and len(below.folders) > 1
    }
    holders = Counter(name for names in of_folders.values() for name in names)
    shared = sorted(name for name, count in holders.items() if count > 1)
    if len(shared) > 1:
        raise UserError(
            f"{root} holds {listed(list(of_folders))}, which hold the same folders "
            f"({listed(shared)}): it is not clear which are the classes. Call parts train, val and "
            "test with the classes in each, or put the images of each class right into its folder."
        )


def _check_classes(
    root: Path, by_class: Mapping[str, FilesBelow], classes: Collection[str]
) -> None:
    """Refuse too few classes, one without images, and one that is not trained on."""
    if len(classes) < 2:
        raise UserError(
            f"{root} holds {len(classes)} folder(s); a classifier needs at least two, "
            f"each with the images of one class.{_deeper(root, by_class)}"
        )
    for label, below in by_class.items():
        if label not in classes:
            raise UserError(
                f"{root / label} holds a class that is not among the training images. "
                "Add it there, or remove it here."
            )
        if not below.images:
            kinds = f" Its files end in {listed(sorted(below.others))}." if below.others else ""
            raise UserError(
                f"{root / label} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).{kinds} "
                "Each folder of the data set is one class and needs images."
            )


def _deeper(root: Path, by_class: Mapping[str, FilesBelow]) -> str:
    """The cure where the data set lies one folder further down."""
    below = [root / label for label, below in by_class.items() if len(below.folders) > 1]
    return f" Did you mean {below[0]}?" if len(below) == 1 else ""


def check_sizes(by_class: Mapping[str, Sequence[Path]], held: Sequence[Part]) -> None:
    """Refuse a class that has no image for each part that comes out of it."""
    parts = ("train", *held)
    for label, files in by_class.items():
        if len(files) < len(parts):
            raise UserError(
                f"Class {label!r} has {len(files)} image(s); it needs at least {len(parts)}, "
                f"one for each of {', '.join(parts)}. Add images, or remove the class."
            )
