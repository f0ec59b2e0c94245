"""The loss: the labels' cross-entropy, and the teacher's softened probabilities beside it.

Labels say what the task is: (B,) class numbers, one of which is right, or (B, classes) of 0 and
1, each a question of its own (sigmoid instead of softmax).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.spec.candidate import SoftLoss


@dataclass(frozen=True)
class MixedLabels:
    """The labels of the images that a batch's were mixed with, and the share (B,) of its own."""

    labels: Tensor
    share: Tensor


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor,
    *,
    alpha: float,
    temperature: float,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    soft_loss: SoftLoss = "kl",
    mixed: MixedLabels | None = None,
) -> Tensor:
    """α · T² · KL(teacher ‖ student at T) + (1 − α) · cross-entropy, a mean over the batch.

    Logits are (B, classes). Without a teacher it is the cross-entropy. T² keeps the gradients of
    both parts in proportion (Hinton, Vinyals, Dean 2015, section 2). `class_weights` (classes,)
    weigh each image's cross-entropy by its class. With `soft_loss` `logit_std` both sides' logits
    become standard scores first (Sun et al. 2024, Logit Standardization in Knowledge Distillation,
    algorithms 1 and 2): the student follows the teacher's order and not its range. Images that
    were mixed have the labels of both.
    """
    hard = label_loss(student_logits, labels, class_weights, label_smoothing, mixed)
    if teacher_logits is None:
        return hard
    if soft_loss == "logit_std":
        student_logits, teacher_logits = map(standard_scores, (student_logits, teacher_logits))
    if labels.ndim == 2:
        soft = _bernoulli_divergence(student_logits / temperature, teacher_logits / temperature)
        return alpha * temperature**2 * soft + (1 - alpha) * hard
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def standard_scores(logits: Tensor) -> Tensor:
    """(logit − mean) / standard deviation, each over the classes of an image.

    A layer norm without weights: its 1e-5 beside the variance keeps equal logits from a division
    by nothing.
    """
    return F.layer_norm(logits.float(), logits.shape[1:])


def label_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    mixed: MixedLabels | None = None,
) -> Tensor:
    """Cross-entropy with class numbers; with 0 and 1 for each class the binary one, their mean.

    `label_smoothing` is the share of a class number's weight that all classes get in equal parts
    (Szegedy et al. 2016, section 7, as PyTorch's cross-entropy has it).
    With weights it is the sum over the images, each weighted, divided by their number and not by
    the sum of weights: micro-batches of an update then add up to the same, however they are cut.
    So it is with smoothing, whose mean in PyTorch has the host wait for the device. Of `mixed`
    images both labels cost, by their shares.
    """
    if mixed is not None:
        return _mixed_loss(logits, labels, mixed, class_weights, label_smoothing)
    if labels.ndim == 1 and (class_weights is not None or label_smoothing):
        weighted = F.cross_entropy(
            logits,
            labels,
            weight=class_weights,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        return weighted / labels.shape[0]
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    scores = logits.float()
    return (F.softplus(scores) - labels * scores).mean()


def _mixed_loss(
    logits: Tensor,
    labels: Tensor,
    mixed: MixedLabels,
    class_weights: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """share · loss of an image's own label + (1 − share) · loss of its partner's, their mean."""
    if labels.ndim == 2:
        wanted = torch.lerp(mixed.labels.float(), labels.float(), mixed.share[:, None])
        scores = logits.float()
        return (F.softplus(scores) - wanted * scores).mean()
    own, other = (
        F.cross_entropy(
            logits, one, weight=class_weights, reduction="none", label_smoothing=label_smoothing
        )
        for one in (labels, mixed.labels)
    )
    return torch.lerp(other, own, mixed.share).mean()


def predictions(logits: Tensor, labels: Tensor) -> Tensor:
    """Answers, on the CPU: the likeliest class (B,) int64, or yes and no for each (B, classes)."""
    if labels.ndim == 1:
        return torch.argmax(logits, dim=1).cpu()
    return (logits > 0).cpu()


def _bernoulli_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(σ(teacher) ‖ σ(student)) over images and classes.

    Each class is distilled as a question of its own (Yang et al. 2023, Multi-Label Knowledge
    Distillation, section 3). From log σ(x) = x − softplus(x), log σ(−x) = −softplus(x).
    """
    student, teacher = student.float(), teacher.float()
    return (
        F.softplus(student) - F.softplus(teacher) - torch.sigmoid(teacher) * (student - teacher)
    ).mean()
