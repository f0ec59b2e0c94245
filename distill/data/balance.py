"""Classes of uneven size: how uneven they are, and weights that make up for it. Draws nothing."""

import numpy as np
from numpy.typing import NDArray

from distill.data.dataset import Dataset

UNEVEN = 10
"""A class with so many times fewer images than another is told."""


def images_by_class(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many images each class has, of labels as in a `Split`."""
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    return counts.astype(np.int64)


def class_weights(labels: NDArray[np.int64], classes: int) -> tuple[float, ...]:
    """The weight of each class: images / (classes · its images), so that their mean is 1 an image.

    As scikit-learn's "balanced" (King, Zeng 2001). A class without images weighs nothing.
    """
    counts = images_by_class(labels, classes)
    there = np.count_nonzero(counts)
    return tuple(float(len(labels) / (there * count)) if count else 0.0 for count in counts)


def uneven_note(data: Dataset) -> str | None:
    """A line for the user where a class has a tenth of another's training images or less."""
    counts = images_by_class(data.train.labels, len(data.classes))
    rare, frequent = int(counts.argmin()), int(counts.argmax())
    if counts[rare] * UNEVEN > counts[frequent]:
        return None
    cure = "--criterion auc" if data.task == "multi-label" else "--balance sampling, --criterion f1"
    return (
        f"uneven classes: {data.classes[rare]} has {counts[rare]:,} images to train on, "
        f"{data.classes[frequent]} {counts[frequent]:,}. What helps the rare ones: {cure}."
    )
