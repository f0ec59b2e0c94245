"""Which files below a folder are images, by their names; what else lies there is counted.

Decides nothing about classes and parts: `image_folder` does. Opens no file.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.base.errors import UserError

IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".avif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
}
"""What the name of an image ends with; `images` names the formats that are read."""

PUT_THERE_BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found"}
"""Folders of copies, thumbnails and rubbish; like names that begin with a dot they are hidden."""

MOST_NAMED = 10
"""How many classes, and how many endings of names, a line names."""


@dataclass
class FilesBelow:
    """What lies below one folder, and right in it: `loose` images and `folders`."""

    images: list[Path] = field(default_factory=list)
    loose: int = 0
    folders: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    seen_again: int = 0


def listed(names: Sequence[str]) -> str:
    """The names, the first few of many."""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def right_in(folder: Path) -> FilesBelow:
    """What lies right in the folder; its folders are named and not entered."""
    found = FilesBelow()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                is_folder = _is_folder(entry)
                if entry.name.startswith(".") or entry.name in PUT_THERE_BY_SYSTEMS:
                    found.hidden["folder" if is_folder else "file"] += 1
                elif is_folder:
                    found.folders.append(entry.name)
                elif (suffix := Path(entry.name).suffix.lower()) in IMAGE_SUFFIXES:
                    found.images.append(folder / entry.name)
                else:
                    found.others[suffix or "no ending"] += 1
    except OSError as error:
        raise UserError(
            f"{folder} can't be read ({error.strerror}). Give the right to read it, or remove it."
        ) from error
    found.loose = len(found.images)
    return found


def all_below(folder: Path, root: Path) -> FilesBelow:
    """What lies below the folder of a class; links to folders are followed, each folder once.

    A link to the data set itself, or to a folder above it, leads back and is not followed.
    """
    found = right_in(folder)
    seen = {folder.resolve()}
    waiting = [folder / name for name in reversed(found.folders)]
    while waiting:
        place = waiting.pop()
        whole = place.resolve()
        if whole in seen or root.is_relative_to(whole):
            found.seen_again += 1
            continue
        seen.add(whole)
        here = right_in(place)
        found.images += here.images
        found.others += here.others
        found.hidden += here.hidden
        waiting += [place / name for name in reversed(here.folders)]
    found.images.sort()
    return found


def left_out(beside: Iterable[FilesBelow], below: Iterable[FilesBelow]) -> list[str]:
    """What is there and not used, a few words each; `beside` lies outside of class folders."""
    whole = FilesBelow()
    for here in beside:
        whole.loose += here.loose
    for here in (*beside, *below):
        whole.others += here.others
        whole.hidden += here.hidden
        whole.seen_again += here.seen_again
    words = []
    if whole.loose:
        words.append(f"{count_of(whole.loose, 'image')} outside of class folders")
    if whole.others:
        kinds = [f"{suffix} {count}" for suffix, count in whole.others.most_common()]
        files = count_of(whole.others.total(), "file")
        words.append(f"{files} that no image's name ends like ({listed(kinds)})")
    words += [count_of(count, f"hidden {kind}") for kind, count in sorted(whole.hidden.items())]
    if whole.seen_again:
        links = count_of(whole.seen_again, "link")
        words.append(f"{links} that would lead back to what is read already")
    return words


def count_of(count: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """True of a link to a folder too; what can't be followed, as a link to itself, is a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False
