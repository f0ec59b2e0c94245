"""Scores of predictions, as fractions between 0 and 1."""

from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor

from distill.step.losses import predictions

AUC_CLASSES = 20
"""Up to this many classes the area under the curve is worth its sorting, each epoch."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean loss, accuracy over all images, and macro averages over the classes.

    `auc` is the macro mean of each class's area under the curve against the rest, `None` where
    it was not asked for or no class has both kinds of images.
    """

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1_score: float
    auc: float | None = None


@dataclass
class Tally:
    """The predictions of a pass over images so far, on the CPU.

    Up to `AUC_CLASSES` classes the logits are kept for the AUC; of more, only where `auc` asks.
    A batch is added when its answers have long arrived, so no sums are kept on the device: those
    would take bytes and launches of it, and the AUC needs every answer all the same.
    """

    loss_sum: float = 0.0
    predicted: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    auc: bool = False

    def __post_init__(self) -> None:
        self.images = sum(len(labels) for labels in self.labels)
        self.answers = sum(labels.numel() for labels in self.labels)
        pairs = zip(self.predicted, self.labels, strict=True)
        self.right = sum(int((predicted == labels).sum()) for predicted, labels in pairs)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch: its mean loss, logits (B, classes), and labels."""
        predicted = predictions(logits, labels)
        self.loss_sum += float(loss) * len(labels)
        self.images += len(labels)
        self.answers += labels.numel()
        self.right += int((predicted == labels).sum())
        self.predicted.append(predicted)
        self.labels.append(labels)
        if self.auc or logits.shape[1] <= AUC_CLASSES:
            self.logits.append(logits)

    def include(self, other: "Tally") -> None:
        """All that was added to another tally, after what is here."""
        self.loss_sum += other.loss_sum
        self.images += other.images
        self.answers += other.answers
        self.right += other.right
        self.predicted += other.predicted
        self.labels += other.labels
        self.logits += other.logits

    def answers_and_labels(self) -> tuple[Tensor, Tensor]:
        """All that was predicted and what was right, each (N,) or (N, classes)."""
        return torch.cat(self.predicted), torch.cat(self.labels)

    @property
    def loss(self) -> float:
        """Mean over the images so far."""
        return self.loss_sum / self.images

    @property
    def accuracy(self) -> float:
        """Right answers among all so far."""
        return self.right / self.answers

    def scores(self, classes: int) -> Scores:
        """The scores of all that was added."""
        return score(
            *self.answers_and_labels(),
            self.loss,
            classes,
            logits=torch.cat(self.logits) if self.logits else None,
        )


def score(
    predicted: Tensor, labels: Tensor, loss: float, classes: int, *, logits: Tensor | None = None
) -> Scores:
    """Scores of predictions against labels, both (N,) class numbers or (N, classes) of 0 and 1.

    `logits` (N, classes) also give the AUC. With several labels an image, accuracy is that of
    all the answers, as MedMNIST counts it (Yang et al. 2023, MedMNIST v2).
    """
    auc = None if logits is None else area_under_curve(logits, labels)
    if labels.ndim == 2:
        classification = _torchmetrics()
        answers = predicted.long()
        return Scores(
            loss=loss,
            accuracy=float(
                classification.multilabel_accuracy(answers, labels, classes, average="micro")
            ),
            precision=float(
                classification.multilabel_precision(answers, labels, classes, average="macro")
            ),
            recall=float(
                classification.multilabel_recall(answers, labels, classes, average="macro")
            ),
            f1_score=float(
                classification.multilabel_f1_score(answers, labels, classes, average="macro")
            ),
            auc=auc,
        )
    return _one_of_many(predicted, labels, loss, classes, auc)


def area_under_curve(logits: Tensor, labels: Tensor) -> float | None:
    """The macro AUC, each class against the rest, of those that have images of both kinds.

    With all classes present, what medmnist's `getAUC` gives for softmax or sigmoid scores.
    """
    areas = [area for area in areas_by_class(logits, labels) if area is not None]
    return float(torch.stack(areas).mean()) if areas else None


def areas_by_class(logits: Tensor, labels: Tensor) -> list[Tensor | None]:
    """Each class's area against the rest; `None` where it has images of one kind only."""
    binary_auroc = _torchmetrics().binary_auroc
    if labels.ndim == 2:
        scores, truth = torch.sigmoid(logits), labels
    else:
        scores = torch.softmax(logits, dim=1)
        truth = torch.nn.functional.one_hot(labels, logits.shape[1])
    return [
        binary_auroc(scores[:, index], truth[:, index])
        if truth[:, index].min() != truth[:, index].max()
        else None
        for index in range(scores.shape[1])
    ]


def _torchmetrics() -> ModuleType:
    # loads SciPy, which takes seconds, and is not needed before there is something to score
    from torchmetrics.functional import classification

    return classification


def _one_of_many(
    predicted: Tensor, labels: Tensor, loss: float, classes: int, auc: float | None
) -> Scores:
    """Macro averages over the classes that occur or are predicted, as torchmetrics takes them.

    Counted here because torchmetrics counts in a table of classes × classes: 12 GiB for 40,000.
    """
    right = predicted == labels
    hits = torch.bincount(labels[right], minlength=classes).double()
    named = torch.bincount(predicted, minlength=classes).double()
    there = torch.bincount(labels, minlength=classes).double()
    seen = named + there > 0
    hits, named, there = hits[seen], named[seen], there[seen]
    return Scores(
        loss=loss,
        accuracy=float(right.double().mean()),
        precision=float((hits / named.clamp(min=1)).mean()),
        recall=float((hits / there.clamp(min=1)).mean()),
        f1_score=float((2 * hits / (named + there)).mean()),
        auc=auc,
    )
