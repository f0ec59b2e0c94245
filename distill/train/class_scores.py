"""Scores of each class by its name, and which class is taken for which. Values, no files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.train.metrics import Tally, areas_by_class

CONFUSED_CLASSES = 1000
"""Of more classes no table of all pairs is made: its size is their square."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: its images, and how they and the others were answered.

    `right` of its `images` were told; `false_positives` images of others were taken for it.
    `auc` is its area under the curve against the rest, where there are few enough classes.
    """

    name: str
    images: int
    right: int
    false_positives: int
    auc: float | None

    @property
    def precision(self) -> float | None:
        """The share of the answers with this name that are right; `None` where there is none."""
        named = self.right + self.false_positives
        return self.right / named if named else None

    @property
    def recall(self) -> float | None:
        """The share of its images that were told; `None` where there is none."""
        return self.right / self.images if self.images else None

    @property
    def f1_score(self) -> float | None:
        """The harmonic mean of both; `None` where the class is neither there nor named."""
        whole = self.images + self.right + self.false_positives
        return 2 * self.right / whole if whole else None


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """The scores of every class on `images` images.

    `confusion` (classes, classes) counts images by true class, downwards, and answer. It is `None`
    where an image has several labels, and of more than `CONFUSED_CLASSES` classes.
    """

    rows: tuple[ClassScore, ...]
    images: int
    confusion: NDArray[np.int64] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's outputs."""
        return tuple(row.name for row in self.rows)

    def weakest(self, count: int) -> list[ClassScore]:
        """The classes that are there, of which the smallest share was told."""
        there = [row for row in self.rows if row.images]
        return sorted(there, key=lambda row: row.right / row.images)[:count]


def class_scores(tally: Tally, names: Sequence[str]) -> ClassScores:
    """The scores by class of all that was added to a tally."""
    predicted, labels = tally.answers_and_labels()
    right, images, named = _counts(predicted, labels, len(names))
    areas: Sequence[Tensor | None] = [None] * len(names)
    if tally.logits:
        areas = areas_by_class(torch.cat(tally.logits), labels)
    return ClassScores(
        rows=tuple(
            ClassScore(
                name=name,
                images=int(images[number]),
                right=int(right[number]),
                false_positives=int(named[number] - right[number]),
                auc=None if (area := areas[number]) is None else float(area),
            )
            for number, name in enumerate(names)
        ),
        images=len(labels),
        confusion=_confusion(predicted, labels, len(names)),
    )


def _counts(predicted: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Right answers, images and answers of each class."""
    if labels.ndim == 2:
        answers, truth = predicted.long(), labels.long()
        return (answers * truth).sum(dim=0), truth.sum(dim=0), answers.sum(dim=0)
    right, images, named = (
        torch.bincount(values, minlength=classes)
        for values in (labels[predicted == labels], labels, predicted)
    )
    return right, images, named


def _confusion(predicted: Tensor, labels: Tensor, classes: int) -> NDArray[np.int64] | None:
    if labels.ndim == 2 or classes > CONFUSED_CLASSES:
        return None
    pairs = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes).numpy()
