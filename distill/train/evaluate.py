"""The answers of a model on a split: every image once, in order, nothing learnt."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from distill.data.batches import evaluation_batches
from distill.data.dataset import Split
from distill.step.step import Step
from distill.train.metrics import Tally

Item = TypeVar("Item")


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
    return together(answers(step, data, batch_size=batch_size, auc=auc, between=between), auc=auc)


def answers(
    step: Step,
    data: Split,
    *,
    batch_size: int,
    auc: bool = False,
    between: Callable[[], object] | None = None,
) -> list[Tally]:
    """The same, a tally for each batch."""
    on_cuda = step.prepare.device.type == "cuda"
    batches = evaluation_batches(data, batch_size, pin=on_cuda)
    tallies = []
    for result, labels in _one_late((step.evaluate(batch), batch.labels) for batch in batches):
        tally = Tally(auc=auc)
        tally.add(result.loss, result.logits, labels)
        tallies.append(tally)
        if between is not None:
            between()
    return tallies


def together(tallies: Iterable[Tally], *, auc: bool = False) -> Tally:
    """One tally of all that was added to these, in their order."""
    whole = Tally(auc=auc)
    for tally in tallies:
        whole.include(tally)
    return whole


def _one_late(items: Iterable[Item]) -> Iterator[Item]:
    """The same, each when the next one is made: a card works on that while the host reads this."""
    before: list[Item] = []
    for item in items:
        yield from before
        before = [item]
    yield from before
