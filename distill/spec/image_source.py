"""Where images of the user's own are named: `folder:DIR` and `csv:FILE`, and what they hold."""

from pathlib import Path

from distill.base.errors import UserError
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
    return Path(name.partition(":")[2]).resolve()


def whole_name(name: str) -> str:
    """A data set's name; that of own images with its whole path, which must be text."""
    if not is_own(name):
        return name
    path = place_of(name)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"The path {path!a} is not UTF-8. Rename that folder.") from error
    return f"{name.partition(':')[0]}:{path}"


def safe_name(name: str) -> str:
    """A data set's name as a folder name; of a list that of its folder too."""
    if not is_own(name):
        return name
    path = place_of(name)
    return f"{path.parent.name}-{path.stem}" if name.startswith(LIST_PREFIX) else path.name
