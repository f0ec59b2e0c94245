"""Labelled images that a finished run is to be scored on: any folder or list, whole or in parts.

Nothing is held out and nothing trained, so a class may be missing and may have one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.spec.image_files import all_below, count_of, left_out, listed, right_in
from distill.spec.image_folder import PART_OF
from distill.spec.image_list import listed_parts
from distill.spec.image_source import LIST_PREFIX, place_of


@dataclass(frozen=True, kw_only=True)
class ImagesToScore:
    """Files by their label; `decided` says which of the data they are, in one line."""

    by_class: Mapping[str, Sequence[Path]]
    decided: str


def images_to_score(name: str) -> ImagesToScore:
    """The images of `folder:DIR` or `csv:FILE`; the test part of what comes in parts.

    Raises `UserError` for what holds no labelled image, and for parts without a test.
    """
    if name.startswith(LIST_PREFIX):
        return _of_list(place_of(name))
    return _of_folder(place_of(name))


def _of_list(path: Path) -> ImagesToScore:
    parts = listed_parts(path)
    whole = parts.get(None)
    if whole is not None:
        return ImagesToScore(by_class=whole, decided="all of the list")
    if "test" not in parts:
        raise UserError(
            f"{path} lists no image of the test ({', '.join(str(part) for part in parts)} only). "
            "Leave out its column split, or list images of the test."
        )
    return ImagesToScore(by_class=parts["test"], decided="the list's test part")


def _of_folder(root: Path) -> ImagesToScore:
    if not root.is_dir():
        near = did_you_mean_beside(root, folder=True)
        raise UserError(
            f"{root} is not a directory.{near} Name one that holds a folder for each class."
        )
    parts = [name for name in right_in(root).folders if _is_part(root / name)]
    tests = [name for name in parts if PART_OF[name.lower()] == "test"]
    if parts and len(tests) != 1:
        raise UserError(
            f"{root} comes in parts ({listed(parts)}) and it is not clear which is to be scored. "
            f"Name it: folder:{root / parts[0]}."
        )
    if tests:
        root = root / tests[0]
    here = right_in(root)
    below = {label: all_below(root / label, root) for label in here.folders}
    by_class = {label: found.images for label, found in below.items() if found.images}
    if not by_class:
        loose = f" It holds {count_of(here.loose, 'image')} without a label." if here.loose else ""
        raise UserError(f"{root} holds no folder with the images of a class.{loose}")
    words = [f"its test part {root.name}/" if tests else "all of the folder"]
    if aside := left_out([here], below.values()):
        words.append(f"ignored: {', '.join(aside)}")
    return ImagesToScore(by_class=by_class, decided="; ".join(words))


def _is_part(folder: Path) -> bool:
    """True of a folder that is called as a part is and holds folders, as the parts of data do."""
    return folder.name.lower() in PART_OF and bool(right_in(folder).folders)
