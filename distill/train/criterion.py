"""The rule that says which epoch's weights are kept: the best by one score on validation images.

Where the score can't tell two epochs apart, as on few images or where there is none, the lower
loss decides, then the earlier epoch. Looks at no test image and at no file.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.spec.candidate import Count, Criterion
from distill.spec.catalog import Task
from distill.train.run_folder import EpochRow, Share

TITLES: dict[Criterion, str] = {"accuracy": "accuracy", "auc": "AUC", "f1": "F1", "loss": "loss"}


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The scores of an epoch on the validation images, `None` where they were not recorded."""

    epoch: Count
    val_accuracy: Share
    val_loss: float | None = None
    val_auc: Share | None = None
    val_f1_score: Share | None = None

    def score(self, criterion: Criterion) -> float | None:
        """The number that the criterion names: a fraction, of which more is better, or the loss."""
        scores = {
            "accuracy": self.val_accuracy,
            "auc": self.val_auc,
            "f1": self.val_f1_score,
            "loss": self.val_loss,
        }
        return scores[criterion]

    def rank(self, criterion: Criterion) -> tuple[float, float, int]:
        """The place of the epoch among others: the best has the highest."""
        score = self.score(criterion)
        if score is not None and criterion == "loss":
            score = -score
        return (
            -math.inf if score is None else score,
            -math.inf if self.val_loss is None else -self.val_loss,
            -self.epoch,
        )


def default_criterion(task: Task) -> Criterion:
    """AUC where an image has several labels, accuracy elsewhere.

    With rare labels, "none of them" is right for nearly all answers: accuracy is the same in
    every epoch, and only the order of the scores says what was learnt.
    """
    return "auc" if task == "multi-label" else "accuracy"


def validation_of(row: EpochRow) -> Validation:
    """The scores of a line of the epoch log."""
    return Validation(
        epoch=row.epoch,
        val_accuracy=row.val_accuracy,
        val_loss=row.val_loss,
        val_auc=row.val_auc,
        val_f1_score=row.val_f1_score,
    )


def best_of(rows: Iterable[EpochRow], criterion: Criterion) -> EpochRow | None:
    """The best of these epochs."""
    return max(rows, key=lambda row: validation_of(row).rank(criterion), default=None)


def is_better(row: EpochRow, than: EpochRow | None, criterion: Criterion) -> bool:
    """True if the weights of `row` are to be kept instead of those of the best before it."""
    return than is None or best_of((than, row), criterion) is row


def has_waited(rows: Sequence[EpochRow], best: EpochRow | None, patience: int | None) -> bool:
    """True if the last `patience` epochs were not better than the best before them."""
    return patience is not None and best is not None and rows[-1].epoch - best.epoch >= patience


def score_text(row: EpochRow, criterion: Criterion) -> str:
    """The score for a person, as `accuracy 86.10 %`, `AUC 0.8610` or `loss 0.512`."""
    score = validation_of(row).score(criterion)
    if score is None:
        return f"{TITLES[criterion]} not known"
    if criterion == "loss":
        return f"loss {score:.3f}"
    if criterion == "auc":  # as every table has it
        return f"AUC {score:.4f}"
    return f"{TITLES[criterion]} {100 * score:.2f} %"
