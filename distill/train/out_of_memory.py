"""The rules for an update that fails: cut smaller when memory ends, given up when not finite.

An update that ran out of memory in forward or backward has changed nothing but gradients; they
are dropped and the same images are taken again in smaller micro-batches, each weighted by its
share, so the optimizer is given the same gradients up to the order of summation. How small is
predicted where a profile says what there is; else half as large as what failed. In the
optimizer's own update a smaller batch needs no less memory, and half of the weights may have
moved: that is the end of the run, and `latest.pth` stays as it was.

A loss that is not finite is not learnt from. With fp16's scaler on, the scaler sees to that
itself (it skips the update and backs off); else the gradients are dropped here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import torch

from distill.base.errors import RunFailed
from distill.data.batches import Batch
from distill.spec.candidate import Candidate, Precision
from distill.step.batch_norm import sees_its_batch
from distill.step.batch_result import BatchResult
from distill.step.memory import is_out_of_memory, release_cached
from distill.step.step import Phase, Step
from distill.train.checkpoint import Lowered, Position
from distill.train.events import EventLog
from distill.train.ranks import ALONE, Ranks
from distill.train.run_folder import StageFolder

T = TypeVar("T")

NOT_FINITE_IN_A_ROW = 3


THE_SAME = "what is learnt stays the same"


def consequence_of(candidate: Candidate) -> str:
    """What smaller micro-batches change, but for batch norm, which the model itself tells."""
    if candidate.patch_drop_rate:
        return "other patches are left out than would have been"
    if candidate.input.mixes:
        return "images may be mixed with others than would have been"
    return THE_SAME


def _at_once() -> None:
    """Nothing is being written: it is as it was left."""


@dataclass
class OutOfMemoryHandler:
    """The rules for one stage, and what happened in it so far.

    `advice` gives the sentences on what would help a micro-batch of that size; `largest_fitting`
    the largest micro-batch that is predicted to fit, `None` where nothing is predicted. `fewest`
    is the smallest micro-batch that the model learns from. Processes that train together agree on
    what is finite; where memory ends in one, the others wait for its gradients, and it is the end.
    """

    planned: int
    effective_batch: int
    precision: Precision
    learning_rate: float
    folder: StageFolder
    events: EventLog
    advice: Callable[[int], str]
    largest_fitting: Callable[[], int | None] = lambda: None
    fewest: int = 1
    not_finite: int = 0
    phase: Phase = "setup"
    say: Callable[[str], None] = field(default=print)
    saved: Callable[[], None] = _at_once
    consequence: str = THE_SAME
    ranks: Ranks = ALONE

    def watch(
        self, step: Step, say: Callable[[str], None], saved: Callable[[], None] = _at_once
    ) -> None:
        """Follow the step's phases; tell with `say`; `saved` waits for what is being written."""
        self.say, self.saved = say, saved
        if sees_its_batch(step.student):
            self.consequence = "batch norm sees fewer images at once"
        step.mark = self._mark

    def train(
        self,
        step: Step,
        micro_batches: Sequence[Batch],
        position: Position,
        images: int | None = None,
    ) -> list[BatchResult] | None:
        """One update, or `None` when it is to be tried again in smaller micro-batches.

        `images` are those of the update in all processes. Raises `RunFailed` when that can't help,
        and after three updates in a row whose loss was not finite.
        """
        try:
            results = step.train(micro_batches, lambda found: self._accept(step, found), images)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            words = str(error).splitlines()[0]
        else:
            if self.not_finite >= NOT_FINITE_IN_A_ROW:
                what = f"The loss was not finite in {self.not_finite} updates in a row"
                self.give_up(position, what)
            return results
        step.abandon()
        release_cached(step.prepare.device)
        self._lower(position, words)
        return None

    def give_up(self, position: Position, what: str) -> NoReturn:
        """Stop, with the last good state kept, and say what to try."""
        place = _place(position)
        self.events.happened("not_finite", {"what": what, **place}, keep=True)
        self.saved()
        if self.folder.latest.exists():
            kept = f"The state after epoch {position.epoch} is kept in {self.folder.latest}"
        else:
            kept = "No epoch was finished"
        cures = [f"a lower --lr than {self.learning_rate:g}", "more --warmup-epochs"]
        if self.precision == "fp16":
            cures.insert(0, "--precision bf16 where the card has it, or fp32")
        raise RunFailed(
            f"{what} (epoch {place['epoch']}, update {place['update']}). {kept}. "
            f"Try {', '.join(cures)}, in another folder (--out) or from the start (--fresh)."
        )

    def _mark(self, phase: Phase) -> None:
        self.phase = phase

    def _accept(self, step: Step, results: Sequence[BatchResult]) -> bool:
        if self.ranks.all_agree(all(finite(float(result.loss)) for result in results)):
            self.not_finite = 0
            return True
        self.not_finite += 1
        return step.scaler.is_enabled()

    def _lower(self, position: Position, words: str) -> None:
        """Take a smaller micro-batch from here on, and record it.

        Raises `RunFailed` where none can help.
        """
        place = _place(position)
        now = position.micro_batch(self.planned)
        values = {"micro_batch": now, "phase": self.phase, "error": words} | place
        self.events.happened("out_of_memory", values, keep=True)
        where = f"epoch {place['epoch']}, update {place['update']}"
        if self.ranks.world_size > 1:
            raise RunFailed(
                f"Out of memory in process {self.ranks.rank} of {self.ranks.world_size} ({where}). "
                f"{self.advice(now)} What was saved is kept."
            )
        if self.phase == "update" or now <= self.fewest:
            alone = "with one image at a time"
            if self.fewest > 1:
                alone = f"with {now} images at a time, the fewest that batch norm takes"
            in_update = "in the optimizer's update, which a smaller batch does not make smaller"
            why = in_update if self.phase == "update" else alone
            raise RunFailed(f"Out of memory {why} ({where}). {self.advice(now)}")
        smaller = self._smaller(now)
        position.lowered.append(Lowered(**place, planned=self.planned, micro_batch=smaller))
        times = -(-self.effective_batch // smaller)
        self.say(
            f"out of memory at {where}: from here on {smaller} × {times} images an update "
            f"instead of {now} × {-(-self.effective_batch // now)}; {self.consequence}"
        )

    def _smaller(self, now: int) -> int:
        """The largest micro-batch that is predicted to fit, else half of what did not.

        It cuts an update into equal parts, as a prediction does: a smaller last one may need more.
        Where `now` itself should have fitted, somebody else holds memory and nothing is known.
        """
        fitting = self.largest_fitting()
        smaller = now // 2
        if fitting is not None and fitting < now:
            smaller = next(n for n in range(fitting, 0, -1) if self.effective_batch % n == 0)
        return max(smaller, self.fewest)


def finite(value: float) -> bool:
    """True if `value` is a number."""
    return math.isfinite(value)


def retried(attempt: Callable[[int], T], batch_size: int, device: torch.device) -> T:
    """`attempt` with `batch_size`, and with half as many each time that memory ends.

    Raises `RunFailed` when it ends at 1.
    """
    while True:
        try:
            return attempt(batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if batch_size == 1:
            raise RunFailed(
                "Out of memory with one image at a time, though nothing is learnt from it. End "
                "other programs that use the memory, or choose a smaller model."
            )
        batch_size //= 2
        release_cached(device)


def _place(position: Position) -> dict[str, int]:
    """Epoch and update where training stands, counted from 1."""
    partial = position.partial
    return {
        "epoch": position.epoch + 1,
        "update": 1 + (0 if partial is None else partial.updates),
    }
