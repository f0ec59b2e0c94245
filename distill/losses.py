"""What is minimised: cross-entropy, and the teacher's softened probabilities beside it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor,
    *,
    alpha: float,
    temperature: float,
) -> Tensor:
    """α · T² · KL(teacher ‖ student at T) + (1 − α) · cross-entropy, a mean over the batch.

    Logits are (B, classes), labels (B,) int64. Without a teacher it is the cross-entropy.
    T² keeps the gradients of both parts in proportion (Hinton, Vinyals, Dean 2015, section 2).
    """
    hard = F.cross_entropy(student_logits, labels)
    if teacher_logits is None:
        return hard
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def predictions(logits: Tensor) -> Tensor:
    """The class with the largest logit, (B,) int64 on the CPU."""
    return torch.argmax(logits, dim=1).cpu()
