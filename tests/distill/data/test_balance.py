"""Classes of uneven size: told, weighed in the loss, or drawn as often as the others."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from distill.data.balance import class_weights, uneven_note
from distill.data.batches import training_batches
from distill.data.dataset import Dataset, Split
from distill.data.draws import balanced_order
from distill.spec.candidate import InputSpec
from distill.step.losses import label_loss

UNEVEN = np.array([0] * 40 + [1] * 4 + [2] * 8)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def split(labels: np.ndarray) -> Split:
    images = np.zeros((len(labels), 1, 4, 4), np.uint8)
    images[:] = np.arange(len(labels))[:, None, None, None]
    return Split(images, labels)


def dataset(labels: np.ndarray, **values: object) -> Dataset:
    part, classes = split(labels), ("cat", "dog", "fox")
    return Dataset(name="d", classes=classes, train=part, val=part, test=part, **values)


@given(LABELS, st.integers(0, 9))
def test_every_class_and_every_image_of_it_comes_as_often_to_within_one(labels, epoch: int) -> None:
    rows = balanced_order(labels, 3, epoch)
    assert len(rows) == len(labels)
    by_class = np.bincount(labels[rows], minlength=5)[np.unique(labels)]
    assert by_class.max() - by_class.min() <= 1
    for label in np.unique(labels):
        images = np.bincount(rows, minlength=len(labels))[labels == label]
        assert images.max() - images.min() <= 1


def test_a_frequent_class_shows_all_its_images_over_the_epochs() -> None:
    seen = {int(row) for epoch in range(12) for row in balanced_order(UNEVEN, 0, epoch)}
    assert seen == set(range(len(UNEVEN)))


def test_an_image_that_comes_twice_is_seen_in_two_ways() -> None:
    spec = InputSpec(source_size=4, crop_padding=2, flip=True)
    numbers = {"seed": 1, "epoch": 0, "micro_batch": 5, "effective_batch": 10, "balanced": True}
    batches = [b for update in training_batches(split(UNEVEN), spec, **numbers) for b in update]
    rare = [
        (int(batch.views.offset_y[i]), int(batch.views.offset_x[i]), bool(batch.views.flip[i]))
        for batch in batches
        for i in range(len(batch))
        if batch.images[i, 0, 0, 0] == 40
    ]
    assert len(rare) > 3 and len(set(rare)) > 1


@given(LABELS)
def test_weights_are_those_that_scikit_learn_calls_balanced(labels) -> None:
    there = np.unique(labels)
    weights = np.array(class_weights(labels, 5))
    assert weights[there] == pytest.approx(
        compute_class_weight("balanced", classes=there, y=labels)
    )
    assert not weights[[label for label in range(5) if label not in there]].any()
    assert weights[labels].mean() == pytest.approx(1)


@given(st.integers(1, 51))
def test_a_weighted_loss_does_not_depend_on_how_an_update_is_cut(at: int) -> None:
    weights = torch.tensor(class_weights(UNEVEN, 3))
    logits, labels = torch.randn(52, 3, dtype=torch.float64), torch.from_numpy(UNEVEN)
    whole = label_loss(logits, labels, weights.double())
    parts = [
        label_loss(logits[part], labels[part], weights.double()) * len(labels[part]) / 52
        for part in (slice(at), slice(at, None))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole))


def test_a_class_with_a_tenth_of_anothers_images_is_told_by_its_name() -> None:
    note = uneven_note(dataset(UNEVEN))
    assert note is not None
    assert "dog has 4 images to train on, cat 40." in note and "--balance" in note
    assert uneven_note(dataset(UNEVEN[:39].repeat(2)[:0:-1])) is not None  # a class without any
    assert uneven_note(dataset(np.array([0, 0, 0, 1, 2]))) is None
    several = np.eye(3, dtype=np.int64)[UNEVEN]
    told = uneven_note(dataset(several, task="multi-label"))
    assert told is not None and "--criterion auc" in told
