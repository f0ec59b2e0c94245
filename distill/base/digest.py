"""Hashes of files and of source code: what was made from others is recognised by them.

Names packages and modules. Reads files; imports none of what it hashes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from distill.base.reading import open_plain


def file_digest(path: Path) -> str:
    """16 hex digits of what a plain file holds."""
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def source_digest(sources: Iterable[str]) -> str:
    """16 hex digits of all Python source in packages (`distill.step`) and modules.

    A file counts by its place and its content: a name that moves is another source.
    """
    digest = hashlib.sha256()
    for source in sources:
        parent, _, name = source.rpartition(".")
        folder = resources.files(parent)
        for place, file in _python_files(name, folder):
            digest.update(f"{parent}/{place}".encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _python_files(name: str, folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    module = folder / f"{name}.py"
    if module.is_file():
        yield name, module
        return
    yield from sorted(_below(name, folder / name), key=lambda found: found[0])


def _below(place: str, folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _below(f"{place}/{item.name}", item)
        elif item.name.endswith(".py"):
            yield f"{place}/{item.name}", item
