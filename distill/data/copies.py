"""Images that are the same, byte for byte, where that makes scores say less than they seem to.

Looks at hashes that were taken while decoding. A photo saved again in another format or size is
not noticed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from distill.data.dataset import Dataset
from distill.spec.image_files import count_of


def equal_rows(digests: Mapping[int, bytes]) -> tuple[tuple[int, ...], ...]:
    """The rows of files with the same hash, a group each; files that are alone are left out."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in digests.items():
        groups[digest].append(row)
    return tuple(tuple(rows) for rows in groups.values() if len(rows) > 1)


def copies_told(copies: Sequence[Sequence[int]], data: Dataset) -> list[str]:
    """Sentences for the user on images that are in two parts of the data, or of two classes.

    `copies` are groups of rows of the array of images that the parts of `data` share.
    """
    if not copies:
        return []
    part_of: dict[int, str] = {}
    label_of: dict[int, int] = {}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        rows = np.arange(len(part)) if part.rows is None else part.rows
        part_of |= dict.fromkeys(rows.tolist(), name)
        label_of |= dict(zip(rows.tolist(), part.labels.tolist(), strict=True))
    told = []
    for name, before, size in (
        ("test", {"train", "val"}, len(data.test)),
        ("val", {"train"}, len(data.val)),
    ):
        seen = [
            row
            for rows in copies
            if before & {part_of[row] for row in rows}
            for row in rows
            if part_of[row] == name
        ]
        if seen:
            told.append(
                f"warning: {len(seen):,} of {size:,} {name} images are copies of images in "
                f"{' or '.join(sorted(before))}; scores on them say little. Keep each photo in one "
                "part."
            )
    torn = sum(len(rows) for rows in copies if len({label_of[row] for row in rows}) > 1)
    if torn:
        told.append(
            f"warning: {count_of(torn, 'image')} are copies of images in another class. Keep each "
            "photo in one class."
        )
    return told
