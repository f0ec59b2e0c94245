"""The updates of a user's step, run on fake tensors while every byte is written down.

The first update makes what the optimizer keeps, so it is another than the rest: updates are traced
until one is as the one before it, and so will be all that follow.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from bench.simulate.program.program import NEVER, PartName, Program, Span, make_program
from bench.simulate.trace.fake_cuda import fake_cuda
from bench.simulate.trace.ledger import Kernels
from bench.simulate.trace.refusals import Untraceable
from bench.simulate.trace.tracer import quiet
from bench.simulate.user_step.attention_choice import Capability
from bench.simulate.user_step.card_calls import CardCalls, CardMode, as_on_a_card, check_settings
from bench.simulate.user_step.releasing_walk import ReleasingWalk
from bench.simulate.user_step.step_ledger import StepLedger
from bench.simulate.user_step.step_refusals import NOTHING_THERE, check_step
from distill.base.errors import UserError
from distill.spec.file_values import Owner
from distill.step.step import Phase

Step = Callable[[], object]
MakeStep = Callable[[torch.device], Step]
"""Builds module, loss and optimizer on a device; what it gives runs one update when called."""

MOST_UPDATES = 6
DEVICE = "cuda"


@dataclass(frozen=True)
class TracedStep:
    """A program of building and some updates, the last of which is as all that follow.

    `begins` are the spans with which the updates begin.
    """

    program: Program
    begins: tuple[int, ...]
    torch: str


def trace_updates(make_step: MakeStep, kernels: Kernels, capability: Capability) -> TracedStep:
    """Build the step and run updates until one is as the one before.

    Raises `Untraceable` for a step whose updates never are, and what fake tensors raise for one
    that asks its data.
    """
    with quiet(), contextlib.ExitStack() as stack:
        ledger = StepLedger(DEVICE, {}, kernels)
        watch = _Watch(ledger)
        check_settings()
        calls = partial(CardCalls, capability=capability)
        walk = watch.walk_backward
        fake = fake_cuda(DEVICE, "flash", walk, rerouted=calls, fake_mode=CardMode)
        stack.enter_context(as_on_a_card(stack.enter_context(fake)))
        for context in (ledger, ledger.module_names(), watch.optimizers()):
            stack.enter_context(context)
        begins = watch.run(make_step)
        program = make_program(ledger.spans, ledger.births, ledger.deaths, ledger.costs)
        return TracedStep(program, begins, torch.__version__)


class _Watch:
    """Runs a step, and says of each of its storages in which phase it came and whose it is."""

    def __init__(self, ledger: StepLedger) -> None:
        self.ledger = ledger
        self.part: PartName = "setup"

    def run(self, make_step: MakeStep) -> tuple[int, ...]:
        """Build, then update until nothing changes; gives the span that begins each update."""
        self.begin("setup")
        step = make_step(torch.device(DEVICE))
        check_step(step)
        self.claim_modules()
        signatures: list[tuple[object, ...]] = []
        begins = []
        for number in range(1, MOST_UPDATES + 1):
            self.part = "first" if number == 1 else "again"
            first = len(self.ledger.births)
            begins.append(len(self.ledger.spans))
            self.begin("forward")
            step()
            self.claim_modules()
            signatures.append(self._signature(first))
            if not self.ledger.births:
                raise UserError(NOTHING_THERE)
            if signatures[-1] in signatures[-2:-1]:
                return tuple(begins)
        raise Untraceable(self._why_never_alike(signatures))

    def begin(self, phase: Phase) -> None:
        """A new phase of the part that is running."""
        self.ledger.begin(Span(phase, self.part))

    def walk_backward(self, loss: Tensor, *, retain_graph: bool) -> None:
        """The stand-in for PyTorch's engine."""
        self.begin("backward")
        with self.ledger.backward_thread():
            ReleasingWalk(
                on_node=self.ledger.enter_node,
                on_gradient=lambda gradient: self.ledger.claim(gradient, "gradients"),
            ).run(loss, retain_graph=retain_graph)
        self.begin("forward")

    @contextlib.contextmanager
    def optimizers(self) -> Iterator[None]:
        """Follow every optimizer's step, by torch's own global hooks."""

        def enter(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self.begin("update")

        def leave(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            for state in optimizer.state.values():
                self._claim_all(state.values(), "optimizer_state")
            self.begin("forward")

        handles = [
            register_optimizer_step_pre_hook(enter),
            register_optimizer_step_post_hook(leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def claim_modules(self) -> None:
        """Say that what modules hold are weights, and what the modules' names are."""
        modules = [one for one in gc.get_objects() if issubclass(type(one), nn.Module)]
        inner = {id(child) for one in modules for child in one.__dict__["_modules"].values()}
        for module in modules:
            self._claim_all(_tensors_of(module), "weights")
            if id(module) not in inner:
                for path, child in module.named_modules():
                    name = f"{type(module).__name__}.{path}".rstrip(".")
                    self.ledger.names.setdefault(id(child), name)

    def _claim_all(self, values: Any, owner: Owner) -> None:
        for value in values:
            if isinstance(value, Tensor) and self._is_ours(value):
                self.ledger.claim(value, owner)

    def _is_ours(self, tensor: Tensor) -> bool:
        """True for a storage that was born in this trace."""
        return (
            tensor.device.type == DEVICE
            and tensor.layout is torch.strided
            and tensor.untyped_storage()._cdata in self.ledger.live
        )

    def _signature(self, first: int) -> tuple[object, ...]:
        """An update as what it allocated, each with when it died, and what it left."""
        births, deaths = self.ledger.births[first:], self.ledger.deaths[first:]
        return (
            tuple(
                (birth.size_bytes, birth.op, death if death == NEVER else death - first)
                for birth, death in zip(births, deaths, strict=True)
            ),
            self._alive_bytes(),
        )

    def _alive_bytes(self) -> int:
        return sum(
            birth.size_bytes
            for birth, death in zip(self.ledger.births, self.ledger.deaths, strict=True)
            if death == NEVER
        )

    def _why_never_alike(self, signatures: Sequence[tuple[Any, ...]]) -> str:
        """Why updates never are alike: they leave more each time, or each is another."""
        grown = signatures[-1][1] - signatures[-2][1]
        if grown > 0:
            kept = self.ledger.births[max(self.ledger.live.values())]
            where = f" of {kept.op} in {kept.module or 'the step'}" if kept.op else ""
            return (
                f"each update keeps {grown} B more{where} than the one before, "
                f"to the {MOST_UPDATES}th, so there is no peak"
            )
        return f"its updates differ: of {MOST_UPDATES} no two in a row were alike"


def _tensors_of(module: nn.Module) -> Iterator[Tensor | None]:
    yield from module.__dict__["_parameters"].values()
    yield from module.__dict__["_buffers"].values()
