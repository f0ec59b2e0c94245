"""Scores by class agree with scikit-learn's, and a class without images has none."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from distill.train.class_scores import CONFUSED_CLASSES, class_scores
from distill.train.metrics import Tally

NAMES = ("ant", "bee", "cat", "dog")


def tally(logits: torch.Tensor, labels: torch.Tensor) -> Tally:
    """As an evaluation adds them, batch by batch."""
    found = Tally()
    for start in range(0, len(labels), 7):
        part = slice(start, start + 7)
        found.add(torch.tensor(1.0), logits[part], labels[part])
    return found


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.integers(0, 99))
def test_one_label_an_image(labels: list[int], seed: int) -> None:
    truth = torch.tensor(labels)
    logits = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    found = class_scores(tally(logits, truth), NAMES)
    answers = logits.argmax(dim=1)
    precision, recall, f1, images = precision_recall_fscore_support(
        truth, answers, labels=range(4), zero_division=np.nan
    )
    for row, values in zip(
        found.rows, zip(precision, recall, f1, images, strict=True), strict=True
    ):
        ours = [row.precision, row.recall, row.f1_score, row.images]
        assert [np.nan if value is None else value for value in ours] == pytest.approx(
            list(values), nan_ok=True
        )
    assert found.confusion is not None
    assert (found.confusion == confusion_matrix(truth, answers, labels=range(4))).all()
    assert found.images == found.confusion.sum() == len(labels)
    assert found.names == NAMES


def test_several_labels_an_image() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(60, 4, generator=generator) < 0.3).long()
    logits = torch.randn(60, 4, generator=generator) + truth
    found = class_scores(tally(logits, truth), NAMES)
    precision, recall, f1, images = precision_recall_fscore_support(truth, logits > 0)
    assert [row.precision for row in found.rows] == pytest.approx(precision)
    assert [row.recall for row in found.rows] == pytest.approx(recall)
    assert [row.f1_score for row in found.rows] == pytest.approx(f1)
    assert [row.images for row in found.rows] == list(images)
    areas = roc_auc_score(truth, torch.sigmoid(logits), average=None)
    assert [row.auc for row in found.rows] == pytest.approx(areas)
    assert found.confusion is None


def test_the_weakest_classes_are_among_those_that_are_there() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    logits = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 0]), 4).float()
    found = class_scores(tally(logits, labels), NAMES)
    assert [row.name for row in found.weakest(2)] == ["cat", "bee"]
    assert (found.rows[3].recall, found.rows[3].precision, found.rows[3].auc) == (None, None, None)


def test_of_very_many_classes_no_square_is_made() -> None:
    many = CONFUSED_CLASSES + 1
    found = class_scores(tally(torch.randn(3, many), torch.tensor([0, 5, many - 1])), ["x"] * many)
    assert found.confusion is None and len(found.rows) == many
