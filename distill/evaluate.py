"""Scores of a model on a split: every image once, in order, nothing learnt."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.data.batches import evaluation_batches
from distill.data.dataset import Split
from distill.losses import predictions
from distill.metrics import AUC_CLASSES, Scores, score
from distill.step import Step


def evaluate(
    step: Step,
    data: Split,
    *,
    batch_size: int,
    classes: int,
    between: Callable[[], object] | None = None,
) -> Scores:
    """Mean cross-entropy and scores of the step's student on all of `data`.

    Up to `AUC_CLASSES` classes the AUC is among them; of more, no image's logits are kept.
    `between` is called after each batch; what it raises ends the evaluation.
    """
    loss_sum = 0.0
    predicted: list[Tensor] = []
    labels: list[Tensor] = []
    logits: list[Tensor] = []
    for batch in evaluation_batches(data, batch_size):
        result = step.evaluate(batch)
        loss_sum += float(result.loss) * len(batch)
        predicted.append(predictions(result.logits, batch.labels))
        labels.append(batch.labels)
        if classes <= AUC_CLASSES:
            logits.append(result.logits)
        if between is not None:
            between()
    return score(
        torch.cat(predicted),
        torch.cat(labels),
        loss_sum / len(data),
        classes,
        logits=torch.cat(logits) if logits else None,
    )
