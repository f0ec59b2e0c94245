"""What a loaded data set is, and how it is split. No files here; `load` reads them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.data.catalog import TEST_FRACTION, VAL_FRACTION, held_out
from distill.errors import UserError


@dataclass(frozen=True)
class Split:
    """`images` (N, C, S, S) uint8 in memory or memory-mapped, `labels` (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """The given rows, in that order."""
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """`test` is looked at once, at the end of a stage."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split


def stratified_rows(
    labels: NDArray[np.int64], fractions: tuple[float, ...], seed: int
) -> list[NDArray[np.int64]]:
    """Rows cut into parts, each class in the same proportion, the rest as the last part.

    Every class has at least one row in each part. Raises `UserError` when a class has fewer
    rows than there are parts.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if len(rows) < len(parts):
            raise UserError(
                f"Class number {label} has {len(rows)} image(s); it needs at least {len(parts)} "
                "so that training, validation and test each get one."
            )
        start = 0
        for index, count in enumerate(held_out(len(rows), fractions)):
            parts[index].append(rows[start : start + count])
            start += count
        parts[-1].append(rows[start:])
    return [np.sort(np.concatenate(part)) for part in parts]


def split(
    name: str,
    classes: tuple[str, ...],
    whole: Split,
    *,
    seed: int,
) -> Dataset:
    """A data set that comes in one piece, cut into train, validation and test."""
    test, val, train = stratified_rows(whole.labels, (TEST_FRACTION, VAL_FRACTION), seed)
    return Dataset(
        name=name,
        classes=classes,
        train=whole.take(train),
        val=whole.take(val),
        test=whole.take(test),
    )
