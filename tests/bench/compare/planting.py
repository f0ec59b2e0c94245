"""Places where a mistake can be planted in a step, and a small cell to see it in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor, nn

from bench.card.targets import target_named
from bench.compare.baseline import BaselineCell
from bench.compare.cells import predicted_cell
from bench.simulate.cache import TraceCache
from bench.simulate.predictor import Predictor
from bench.simulate.trace.tracer import _built
from distill.spec.candidate import Candidate, InputSpec
from distill.step.batch_result import BatchResult
from distill.step.prepare import Prepare
from distill.step.step import Step
from tests.conftest import _model

Plant = Callable[[], AbstractContextManager[object]]


def predict(candidate: Candidate) -> BaselineCell:
    """A cell traced anew: the source on disk does not show what a test plants.

    Its models are built anew, too, and none that was built with a mistake is left for other tests.
    """
    predictor = Predictor(target_named("rtx4050"), "expandable", TraceCache(None))
    _built.cache_clear()
    try:
        return predicted_cell(predictor, candidate)
    finally:
        _built.cache_clear()


WHOLE = Candidate(
    stage="student",
    student=_model(width=64, depth=2),
    teacher=_model(width=32, depth=1),
    input=InputSpec(source_size=8, crop_padding=1, flip=True),
    micro_batch=512,
    precision="fp16",
    implementation="fused",
    clip_norm=True,
)
"""So many images that activations, not workspaces, decide."""
CHECKPOINTED = replace(WHOLE, checkpointing=1)
WELL_TAUGHT = replace(CHECKPOINTED, teacher=_model(width=256, depth=1))
"""The teacher's forward is where most is allocated."""


def built(change: Callable[[Step], object]) -> AbstractContextManager[object]:
    """As a step has been built."""
    original = Step.__init__

    def init(self: Step, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        change(self)

    return mock.patch.object(Step, "__init__", init)


def forwarded(change: Callable[[Step, Tensor], Tensor]) -> AbstractContextManager[object]:
    """As the loss has been computed; `change` gives the loss that is used."""
    original = Step._forward

    def forward(self: Step, batch) -> tuple[Tensor, Tensor]:
        loss, logits = original(self, batch)
        return change(self, loss), logits

    return mock.patch.object(Step, "_forward", forward)


def prepared(change: Callable[[Prepare, Tensor], Tensor]) -> AbstractContextManager[object]:
    """As images to train with are on the device; `change` gives those that are used."""
    original = Prepare.__call__

    def call(self: Prepare, batch) -> Tensor:
        images = original(self, batch)
        return change(self, images) if torch.is_grad_enabled() else images

    return mock.patch.object(Prepare, "__call__", call)


def around(name: str, manager: Callable[[], AbstractContextManager]) -> AbstractContextManager:
    """Around the whole of one method of a step."""
    original = getattr(Step, name)

    def inside(self: Step, *args, **kwargs):
        with manager():
            return original(self, *args, **kwargs)

    return mock.patch.object(Step, name, inside)


def before(name: str, change: Callable[[Step], object]) -> AbstractContextManager[object]:
    """Just before one method of a step."""
    original = getattr(Step, name)

    def after_change(self: Step, *args, **kwargs):
        change(self)
        return original(self, *args, **kwargs)

    return mock.patch.object(Step, name, after_change)


def backward_by(call: Callable[[Step, Tensor], None]) -> AbstractContextManager[object]:
    """In the place of `scaled.backward()`."""

    def accumulate(self: Step, batch, weight: float) -> BatchResult:
        loss, logits = self._forward(batch)
        value = loss.detach().cpu()
        scaled = self.scaler.scale(loss * weight)
        del loss
        self.mark("backward")
        call(self, scaled)
        return BatchResult(value, logits)

    return mock.patch.object(Step, "_accumulate", accumulate)


def in_training(hook: Callable[[nn.Module, Tensor, Tensor], object]) -> Callable[[Step], None]:
    """A forward hook (module, input, output) on each block of the student, while it trains."""

    def register(self: Step) -> None:
        for block in self.student.blocks:
            block.register_forward_hook(
                lambda module, given, out: hook(module, given[0], out) if module.training else None
            )

    return register


def kept(self: object, value: object) -> None:
    """Keep a value with all those before it."""
    self.__dict__.setdefault("all_kept", []).append(value)


def last_kept(self: object, value: object) -> None:
    """Keep a value in the place of the one before it."""
    self.__dict__["the_last"] = value


def keeping(self: object, value: Tensor) -> Tensor:
    last_kept(self, value)
    return value
