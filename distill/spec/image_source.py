"""Where images of the user's own are named: `folder:DIR` and `csv:FILE`, and what they hold."""

from pathlib import Path

from distill.base.whole_path import text_path, whole_path
from distill.spec.image_folder import Layout, layout_of
from distill.spec.image_list import listed_layout

FOLDER_PREFIX, LIST_PREFIX = "folder:", "csv:"


def is_own(name: str) -> bool:
    """True if a data set's name is that of images of the user's own."""
    return name.startswith((FOLDER_PREFIX, LIST_PREFIX))


def image_layout(name: str) -> Layout:
    """The images of `folder:DIR` or `csv:FILE`. Raises `UserError` where they are not clear."""
    if name.startswith(LIST_PREFIX):
        return listed_layout(place_of(name))
    return layout_of(place_of(name))


def place_of(name: str) -> Path:
    """The whole path in `folder:DIR` or `csv:FILE`."""
    return whole_path(name.partition(":")[2])


def whole_name(name: str) -> str:
    """A data set's name; that of own images with its whole path, which must be text."""
    kind, _, place = name.partition(":")
    return f"{kind}:{text_path(place)}" if is_own(name) else name


def safe_name(name: str) -> str:
    """A data set's name as a folder name; of a list that of its folder too."""
    if not is_own(name):
        return name
    path = place_of(name)
    return f"{path.parent.name}-{path.stem}" if name.startswith(LIST_PREFIX) else path.name
