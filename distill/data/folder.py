"""Images by class, in a folder or in a list, as a data set.

`spec` decides which files are images of what, `decoded` brings them into memory-mapped arrays.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.base.errors import UserError
from distill.data.copies import copies_told
from distill.data.dataset import Dataset, Split, split
from distill.data.decoded import Decoder, Findings, digest_of
from distill.spec.image_folder import Layout, Part
from distill.spec.image_source import image_layout, place_of, safe_name


def load_folder(
    name: str,
    image_size: int,
    data_dir: Path,
    *,
    seed: int,
    skip_unreadable: bool = False,
    between: Callable[[], object] | None = None,
) -> Dataset:
    """`folder:DIR` or `csv:FILE` as a data set, its images (3, image_size, image_size).

    Raises `UserError` for images that can't be read, unless they are to be skipped, and for a disk
    without room.
    """
    layout = image_layout(name)
    decoder = Decoder(
        image_size=image_size,
        folder=data_dir / "folders",
        prefix=cache_prefix(name, image_size),
        skip_unreadable=skip_unreadable,
        between=between,
    )
    images, findings = decoder.decode(
        [path for part in layout.parts.values() for paths in part.values() for path in paths]
    )
    parts = {part: without(rows, findings) for part, rows in _parts(images, layout).items()}
    if findings.unreadable:
        _check_left(parts, layout)
    data = split(name, layout.classes, parts, seed=seed, decided=layout.decided)
    return replace(
        data,
        notes=(*findings.notes, *copies_told(findings.copies, data)),
        unreadable=tuple(reason for _, reason in findings.unreadable),
    )


def cache_prefix(name: str, image_size: int) -> str:
    """What the name of the file of decoded images begins with, whatever the images are."""
    return f"{safe_name(name)}-{digest_of([str(place_of(name))])[:8]}-{image_size}px-"


def without(part: Split, findings: Findings) -> Split:
    """The images that could be read."""
    assert part.rows is not None
    lost = np.array([row for row, _ in findings.unreadable], dtype=np.int64)
    return part.take(np.flatnonzero(~np.isin(part.rows, lost)))


def _check_left(parts: Mapping[Part, Split], layout: Layout) -> None:
    """Refuse a class of which no image to train on can be read, and a part without images."""
    left = set(parts["train"].labels.tolist())
    gone = [label for number, label in enumerate(layout.classes) if number not in left]
    if gone:
        raise UserError(
            f"None of the images to train on of class {gone[0]!r} can be read. Replace them, or "
            "remove the class."
        )
    for part, images in parts.items():
        if not len(images):
            raise UserError(f"None of the {part} images can be read. Replace them.")


def _parts(images: NDArray[np.uint8], layout: Layout) -> dict[Part, Split]:
    """The images of each part with their class numbers, in the order in which they lie."""
    number_of = {label: number for number, label in enumerate(layout.classes)}
    found: dict[Part, Split] = {}
    start = 0
    for part, by_class in layout.parts.items():
        numbers = np.array([number_of[label] for label in by_class], dtype=np.int64)
        labels = numbers.repeat([len(files) for files in by_class.values()])
        rows = np.arange(start, start + len(labels))
        found[part], start = Split(images, labels, rows), start + len(labels)
    return found
