"""The loss is the one in the paper."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from distill.step.losses import distillation_loss, label_loss, predictions


def by_hand(student, teacher, label, alpha, temperature):
    """One sample, in plain Python."""

    def softmax(values):
        largest = max(values)
        powers = [math.exp(v - largest) for v in values]
        return [p / sum(powers) for p in powers]

    soft_teacher = softmax([v / temperature for v in teacher])
    soft_student = softmax([v / temperature for v in student])
    divergence = sum(
        p * math.log(p / q) for p, q in zip(soft_teacher, soft_student, strict=True) if p
    )
    return alpha * temperature**2 * divergence - (1 - alpha) * math.log(softmax(student)[label])


logits = st.lists(st.floats(-8, 8), min_size=5, max_size=5)


@given(logits, logits, st.integers(0, 4), st.floats(0, 1), st.floats(0.5, 10))
def test_it_is_alpha_t_squared_kl_plus_cross_entropy(student, teacher, label, alpha, temperature):
    loss = distillation_loss(
        torch.tensor([student], dtype=torch.float64),
        torch.tensor([teacher], dtype=torch.float64),
        torch.tensor([label]),
        alpha=alpha,
        temperature=temperature,
    )
    expected = by_hand(student, teacher, label, alpha, temperature)
    assert float(loss) == pytest.approx(expected, abs=1e-9)


def test_without_a_teacher_it_is_the_cross_entropy() -> None:
    student, labels = torch.randn(3, 4), torch.tensor([0, 3, 1])
    loss = distillation_loss(student, None, labels, alpha=0.7, temperature=4.0)
    assert torch.equal(loss, F.cross_entropy(student, labels))


def test_a_student_equal_to_its_teacher_pays_only_for_the_labels() -> None:
    student, labels = torch.randn(3, 4), torch.tensor([0, 3, 1])
    loss = distillation_loss(student, student, labels, alpha=1.0, temperature=4.0)
    assert float(loss) == pytest.approx(0, abs=1e-6)


@given(logits, logits, st.integers(0, 4), st.floats(0, 1), st.floats(0.5, 10))
def test_standard_scores_are_distilled_as_the_paper_writes_it(
    student, teacher, label, alpha, temperature
):
    """Sun et al. 2024, algorithms 1 and 2, in plain Python."""

    def scores(values):
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        return [(v - mean) / math.sqrt(variance + 1e-5) for v in values]

    loss = distillation_loss(
        torch.tensor([student]),
        torch.tensor([teacher]),
        torch.tensor([label]),
        alpha=alpha,
        temperature=temperature,
        soft_loss="logit_std",
    )
    soft = by_hand(scores(student), scores(teacher), label, 1.0, temperature)
    hard = by_hand(student, teacher, label, 0.0, temperature)
    assert float(loss) == pytest.approx(alpha * soft + (1 - alpha) * hard, abs=1e-3, rel=1e-3)


def test_standard_scores_of_equal_logits_teach_without_an_infinity() -> None:
    student = torch.zeros(2, 5, requires_grad=True)
    loss = distillation_loss(
        student, torch.randn(2, 5), torch.tensor([0, 1]), alpha=1, temperature=1,
        soft_loss="logit_std",
    )  # fmt: skip
    loss.backward()
    assert student.grad is not None and bool(student.grad.isfinite().all())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 1.0])])
def test_smoothed_labels_cost_what_torch_says(weights: torch.Tensor | None) -> None:
    student, labels = torch.randn(6, 4), torch.randint(0, 4, (6,))
    expected = F.cross_entropy(
        student, labels, weight=weights, label_smoothing=0.1, reduction="none"
    )
    assert torch.allclose(label_loss(student, labels, weights, 0.1), expected.mean())


def test_several_labels_cost_what_torch_says_for_each() -> None:
    student, labels = 5 * torch.randn(6, 4), torch.randint(0, 2, (6, 4))
    expected = F.binary_cross_entropy_with_logits(student, labels.float())
    assert torch.allclose(label_loss(student, labels), expected)


@given(logits, logits, st.floats(0, 1), st.floats(0.5, 10))
def test_several_labels_are_distilled_as_a_question_each(student, teacher, alpha, temperature):
    labels = torch.tensor([[0, 1, 1, 0, 1]])
    s, t = (torch.tensor([values], dtype=torch.float32) for values in (student, teacher))
    loss = distillation_loss(s, t, labels, alpha=alpha, temperature=temperature)
    yes, guess = (torch.sigmoid(x.double() / temperature) for x in (t, s))
    divergence = yes * (yes / guess).log() + (1 - yes) * ((1 - yes) / (1 - guess)).log()
    hard = F.binary_cross_entropy_with_logits(s, labels.float())
    expected = alpha * temperature**2 * divergence.mean() + (1 - alpha) * hard
    assert float(loss) == pytest.approx(float(expected), abs=1e-4, rel=1e-4)


def test_predictions_are_as_the_labels_are() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    assert predictions(logits, torch.tensor([0])).tolist() == [2]
    assert predictions(logits, torch.tensor([[0, 0, 1]])).tolist() == [[True, False, True]]
