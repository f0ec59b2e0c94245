"""The answers of a model on a split: every image once, in order, nothing learnt."""

from collections.abc import Callable

from distill.data.batches import evaluation_batches
from distill.data.dataset import Split
from distill.step.step import Step
from distill.train.metrics import Tally


def evaluate(
    step: Step,
    data: Split,
    *,
    batch_size: int,
    auc: bool = False,
    between: Callable[[], object] | None = None,
) -> Tally:
    """The answers of the step's student to all of `data`, and their mean cross-entropy.

    With `auc` there is what that needs, however many classes there are. `between` is called after
    each batch; what it raises ends the evaluation.
    """
    tally = Tally(auc=auc)
    for batch in evaluation_batches(data, batch_size):
        result = step.evaluate(batch)
        tally.add(result.loss, result.logits, batch.labels)
        if between is not None:
            between()
    return tally
