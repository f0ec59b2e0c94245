"""A loaded data set and its parts. No files here; `load` reads them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distill.base.errors import UserError
from distill.base.units import MIB
from distill.spec.catalog import Task
from distill.spec.image_folder import Part, held_out, lacking

HASHED_BYTES = 16 * MIB
"""Of the images of each split, at most so many go into the hash of a data set."""


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
    """`test` is looked at once, at the end of a stage.

    `decided` says how a folder was read, and `notes` what else the user should know. `unreadable`
    names the images that were left out, and why.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    task: Task = "multi-class"
    notes: tuple[str, ...] = ()
    decided: str = ""
    unreadable: tuple[str, ...] = ()

    def read_by(self, workers: int) -> "Dataset":
        """The same data, read ahead by that many threads."""
        parts = (replace(part, workers=workers) for part in (self.train, self.val, self.test))
        train, val, test = parts
        return replace(self, train=train, val=val, test=test)


def content_of(data: Dataset) -> dict[str, int | str]:
    """The marks that tell data apart: numbers of classes and images, and a hash.

    The hash is of the classes' names, all labels, and evenly spaced images of each split.
    """
    parts = {"train": data.train, "val": data.val, "test": data.test}
    names = "\0".join(data.classes)
    mark = hashlib.sha256(names.encode(errors="surrogateescape"))
    for part in parts.values():
        mark.update(np.ascontiguousarray(part.labels).tobytes())
        if len(part):
            most = max(1, HASHED_BYTES // part.images[:1].nbytes)
            places = np.linspace(0, len(part) - 1, min(len(part), most)).astype(np.int64)
            mark.update(part.images_at(places).tobytes())
    sizes = {f"{name} images": len(part) for name, part in parts.items()}
    return {"classes": len(data.classes), **sizes, "digest": mark.hexdigest()[:16]}


def stratified_rows(
    labels: NDArray[np.int64], held: Sequence[Part], seed: int, names: Sequence[str] = ()
) -> list[NDArray[np.int64]]:
    """Rows cut into the parts that are held out, each class in the same proportion, and the rest.

    Every class has at least one row in each. Raises `UserError`, with the class by its name, when
    a class has too few.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(held) + 1)]
    by_class = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[by_class], return_index=True)
    for label, members in zip(present, np.split(by_class, starts[1:]), strict=True):
        rows = generator.permutation(members)
        if len(rows) < len(parts):
            name = repr(names[label]) if names else f"number {label}"
            raise UserError(
                f"Class {name} has {len(rows)} image(s); it needs at least {len(parts)}, "
                "one for each part of the data."
            )
        start = 0
        for index, count in enumerate(held_out(len(rows), held)):
            parts[index].append(rows[start : start + count])
            start += count
        parts[-1].append(rows[start:])
    return [np.sort(np.concatenate(part)) for part in parts]


def split(
    name: str,
    classes: tuple[str, ...],
    parts: Mapping[Part, Split],
    *,
    seed: int,
    decided: str = "",
) -> Dataset:
    """A data set in the parts that it comes in; what it lacks is held out of `train`."""
    whole, missing = parts["train"], lacking(parts)
    *held, rest = (
        whole.take(rows) for rows in stratified_rows(whole.labels, missing, seed, classes)
    )
    found = {**parts, **dict(zip(missing, held, strict=True))}
    return Dataset(
        name=name,
        classes=classes,
        train=rest,
        val=found["val"],
        test=found["test"],
        decided=decided,
    )
