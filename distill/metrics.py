"""How good predictions are, as fractions between 0 and 1."""

from dataclasses import dataclass

from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean loss, accuracy over all images, and macro averages over the classes."""

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1_score: float


def score(predicted: Tensor, labels: Tensor, loss: float, classes: int) -> Scores:
    """Scores of (N,) predicted classes against (N,) labels.

    Macro averages leave out classes that neither occur nor are predicted, as torchmetrics does.
    """
    return Scores(
        loss=loss,
        accuracy=float(multiclass_accuracy(predicted, labels, classes, average="micro")),
        precision=float(multiclass_precision(predicted, labels, classes, average="macro")),
        recall=float(multiclass_recall(predicted, labels, classes, average="macro")),
        f1_score=float(multiclass_f1_score(predicted, labels, classes, average="macro")),
    )
