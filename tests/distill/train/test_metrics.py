"""Scores agree with those who define them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from medmnist.evaluator import getACC, getAUC
from torchmetrics.functional.classification import (
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from distill.train.metrics import Tally, area_under_curve, score

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(pairs)
def test_one_of_many_is_scored_as_torchmetrics_does(answers: list[tuple[int, int]]) -> None:
    predicted, labels = torch.tensor(answers).T
    scores = score(predicted, labels, 0.0, 6)
    for mine, theirs in (
        (scores.precision, multiclass_precision),
        (scores.recall, multiclass_recall),
        (scores.f1_score, multiclass_f1_score),
    ):
        assert mine == pytest.approx(float(theirs(predicted, labels, 6, average="macro")), abs=1e-6)
    assert scores.accuracy == pytest.approx(float((predicted == labels).float().mean()))


def test_forty_thousand_classes_are_scored_in_little_memory() -> None:
    labels = torch.arange(40_000)
    scores = score(labels.roll(20_000).where(labels < 10_000, labels), labels, 0.0, 40_000)
    assert scores.accuracy == scores.recall == 0.75


@pytest.mark.parametrize("task", ["multi-class", "binary-class", "multi-label, binary-class"])
def test_the_area_is_medmnists(task: str) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = 2 if task == "binary-class" else 5
    logits = torch.randn(200, classes, generator=generator)
    shape = (200, classes) if "label" in task else (200,)
    labels = torch.randint(0, 2 if "label" in task else classes, shape, generator=generator)
    shares = torch.sigmoid(logits) if "label" in task else torch.softmax(logits, dim=1)
    expected = getAUC(labels.numpy(), shares.numpy(), task)
    assert area_under_curve(logits, labels) == pytest.approx(expected, abs=1e-6)
    if "label" in task:
        scores = score(logits > 0, labels, 0.0, classes)
        assert scores.accuracy == pytest.approx(getACC(labels.numpy(), shares.numpy(), task))


def test_scores_gathered_in_batches_are_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator)
    labels = torch.randint(0, 3, (50,), generator=generator)
    tally = Tally()
    for part in torch.arange(50).split(16):
        tally.add(torch.tensor(2.0), logits[part], labels[part])
    assert tally.scores(3) == score(logits.argmax(1), labels, 2.0, 3, logits=logits)
    assert tally.accuracy == tally.scores(3).accuracy and tally.scores(3).auc is not None


def test_of_many_classes_no_logits_are_kept() -> None:
    tally = Tally()
    tally.add(torch.tensor(1.0), torch.randn(4, 21), torch.tensor([0, 1, 2, 20]))
    assert tally.logits == [] and tally.scores(21).auc is None


def test_a_class_that_never_occurs_has_no_area() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 2.0, 0.0]])
    assert area_under_curve(logits, torch.tensor([0, 1, 1])) == pytest.approx(
        np.mean([1.0, 0.75]), abs=1e-6
    )
    assert area_under_curve(logits, torch.tensor([1, 1, 1])) is None


def test_a_tally_that_was_saved_goes_on_counting() -> None:
    logits, labels = torch.eye(4)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 3])
    whole, first = Tally(), Tally()
    whole.add(torch.tensor(2.0), logits, labels)
    first.add(torch.tensor(2.0), logits[:3], labels[:3])
    later = Tally(first.loss_sum, first.predicted, first.labels, first.logits)
    later.add(torch.tensor(2.0), logits[3:], labels[3:])
    assert (later.loss, later.accuracy) == (whole.loss, whole.accuracy) == (2.0, 0.75)
