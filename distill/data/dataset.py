"""What a loaded data set is, and how it is split. No files here; `load` reads them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distill.data.catalog import TEST_FRACTION, VAL_FRACTION, Task, held_out
from distill.errors import UserError


@dataclass(frozen=True)
class Split:
    """Some of the images of an array, with their labels.

    `images` is (M, C, S, S) uint8, in memory or memory-mapped, and may be shared with other
    splits; `rows` says which of them are this split's N, `None` all. `labels` is (N,) class
    numbers or (N, classes) of 0 and 1, int64. `workers` threads read ahead, 0 none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64]) -> "Split":
        """The samples at these places of this split, in that order; no image is copied."""
        rows = places if self.rows is None else self.rows[places]
        return replace(self, labels=self.labels[places], rows=rows)

    def images_at(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these places as one contiguous array (len(places), C, S, S)."""
        rows = places if self.rows is None else self.rows[places]
        return np.ascontiguousarray(self.images[rows])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """`test` is looked at once, at the end of a stage. `notes` are for the user to know."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    task: Task = "multi-class"
    notes: tuple[str, ...] = ()

    def read_by(self, workers: int) -> "Dataset":
        """The same data, read ahead by that many threads."""
        parts = (replace(part, workers=workers) for part in (self.train, self.val, self.test))
        train, val, test = parts
        return replace(self, train=train, val=val, test=test)


def stratified_rows(
    labels: NDArray[np.int64], fractions: tuple[float, ...], seed: int
) -> list[NDArray[np.int64]]:
    """Rows cut into parts, each class in the same proportion, the rest as the last part.

    Every class has at least one row in each part. Raises `UserError` when a class has fewer
    rows than there are parts.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    by_class = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[by_class], return_index=True)
    for label, members in zip(present, np.split(by_class, starts[1:]), strict=True):
        rows = generator.permutation(members)
        if len(rows) < len(parts):
            raise UserError(
                f"Class number {label} has {len(rows)} image(s); it needs at least {len(parts)}, "
                "one for each part of the data."
            )
        start = 0
        for index, count in enumerate(held_out(len(rows), fractions)):
            parts[index].append(rows[start : start + count])
            start += count
        parts[-1].append(rows[start:])
    return [np.sort(np.concatenate(part)) for part in parts]


def split(
    name: str, classes: tuple[str, ...], whole: Split, *, seed: int, notes: tuple[str, ...] = ()
) -> Dataset:
    """A data set that comes in one piece, cut into train, validation and test."""
    test, val, train = stratified_rows(whole.labels, (TEST_FRACTION, VAL_FRACTION), seed)
    return Dataset(
        name=name,
        classes=classes,
        train=whole.take(train),
        val=whole.take(val),
        test=whole.take(test),
        notes=notes,
    )


def split_with_test(
    name: str, classes: tuple[str, ...], whole: Split, test: Split, *, seed: int
) -> Dataset:
    """A data set with official test images; validation is held out of the training images."""
    val, train = stratified_rows(whole.labels, (VAL_FRACTION,), seed)
    return Dataset(
        name=name, classes=classes, train=whole.take(train), val=whole.take(val), test=test
    )
