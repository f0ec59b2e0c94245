"""The step that trains, run on fake tensors while every byte is written down.

Every part of a training run is traced once; `arrange` puts the parts together as they come.
"""

import copy
import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from bench.simulate.program.program import PartName, Program, Span, make_program
from bench.simulate.trace.backward import BackwardWalk
from bench.simulate.trace.fake_cuda import fake_cuda
from bench.simulate.trace.ledger import Kernels, Ledger, no_kernels
from bench.simulate.trace.refusals import Untraceable, refuse_hooks_of
from distill.data.batches import Batch, labels_shape, made_up_logits, views_of
from distill.spec.candidate import Candidate, Checkpointing, ModelSpec
from distill.spec.file_values import Owner
from distill.spec.pins import Attention
from distill.step.assemble import assemble, assemble_teaching
from distill.step.batch_result import BatchResult
from distill.step.checkpointing import check_checkpointed
from distill.step.models import build
from distill.step.step import Phase, Step

FAKE_LOG = logging.getLogger("torch._subclasses.fake_tensor")
"""It tells a traceback of what a fake kernel refuses, which here becomes a sentence."""

BEGINS_A_PART: tuple[Phase, ...] = ("setup", "prepare", "update", "evaluate")

BY_THE_TEACHER = "raised in the teacher's forward"
"""A note on what was raised there: the other model is not to blame."""


class SpanMarker:
    """Turns the marks of a step into spans of the ledger, each in the part that is running."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.part: PartName = "setup"
        self.parts: Iterator[PartName] = iter([self.part])

    def begin(self, *parts: PartName) -> None:
        """The parts that come next: one a micro-batch, one for the update, or the evaluation."""
        self.parts = iter(parts)

    def __call__(self, phase: Phase) -> None:
        if phase == "update" and self._has_begun_update():
            return
        if phase in BEGINS_A_PART:
            self.part = next(self.parts)
        self.ledger.begin(Span(phase, self.part))

    def begin_update(self, results: Sequence[BatchResult]) -> bool:
        """The micro-batches are done (`Step.train` asks if it may accept their results).

        What comes between them and the update's own mark is the update's: the last micro-batch
        of a trace is left out of a run that takes one an update.
        """
        self("update")
        return True

    def _has_begun_update(self) -> bool:
        return bool(self.ledger.spans) and self.ledger.spans[-1].phase == "update"


def trace_step(
    candidate: Candidate,
    *,
    attention: Attention,
    device_type: str = "cuda",
    kernels: Kernels = no_kernels,
    in_place: bool = True,
) -> Program:
    """Trace every part of a run once, all at the candidate's micro-batch.

    The run trains, or caches the teacher's logits.

    Raises `UserError` for a model that can't be built, and what fake tensors raise for one
    whose forward depends on its data.
    """
    if candidate.deterministic and candidate.patch_drop_rate:
        raise Untraceable("leaving patches out, as deterministic kernels put gradients back")
    with quiet():
        student, teacher = _models(candidate)
        models = {"student": student} | ({} if teacher is None else {"teacher": teacher})
        ledger = Ledger(device_type, models, kernels)

        def walk_backward(loss: Tensor, *, retain_graph: bool) -> None:
            with ledger.backward_thread():
                BackwardWalk(
                    in_place=in_place,
                    on_node=ledger.enter_node,
                    on_gradient=lambda gradient: ledger.claim(gradient, "gradients"),
                ).run(loss, retain_graph=retain_graph)

        with fake_cuda(device_type, attention, walk_backward):
            try:
                return watch(ledger, candidate, student, teacher, torch.device(device_type))
            except Exception as error:
                if ledger.spans and ledger.spans[-1].phase == "teacher":
                    error.add_note(BY_THE_TEACHER)
                raise


def watch(
    ledger: Ledger,
    candidate: Candidate,
    student: nn.Module,
    teacher: nn.Module | None,
    device: torch.device,
) -> Program:
    """Build the step and run every part once, the ledger looking on.

    Runs on real tensors as well as on fake ones. What the step holds at the end never dies.
    """
    if candidate.teacher_logits == "caching":
        assert teacher is not None
        return _watch_caching(ledger, candidate, student, teacher, device)
    with ledger, ledger.module_names():
        marker = SpanMarker(ledger)
        step = assemble(candidate, student, teacher, device, mark=marker)
        # Before the first part: a low-precision copy is known by the owner of its source.
        _claim_models(ledger, step)
        _run_parts(step, ledger, marker, candidate)
        check_checkpointed(step.student)
        program = make_program(ledger.spans, ledger.births, ledger.deaths, ledger.costs)
        _check_evaluation(step, ledger, marker, candidate)
        return program


def _watch_caching(
    ledger: Ledger,
    candidate: Candidate,
    student: nn.Module,
    teacher: nn.Module,
    device: torch.device,
) -> Program:
    """Bring the teacher alone to the device and ask it twice, the ledger looking on."""
    with ledger, ledger.module_names():
        marker = SpanMarker(ledger)
        teaching = assemble_teaching(candidate, student, teacher, device, mark=marker)
        _claim(ledger, teaching.teacher, "teacher")
        marker.begin("teach_first", "teach")
        for _ in range(2):
            teaching(_blank_batch(candidate))
        return make_program(ledger.spans, ledger.births, ledger.deaths, ledger.costs)


def _run_parts(step: Step, ledger: Ledger, marker: SpanMarker, candidate: Candidate) -> None:
    """A first update of two micro-batches, a second of one, an evaluation."""
    updates: tuple[tuple[PartName, ...], ...] = (
        ("first", "more", "first_update"),
        ("again", "update"),
    )
    for parts in updates:
        marker.begin(*parts)
        step.train([_blank_batch(candidate) for _ in parts[:-1]], marker.begin_update)
        _claim_state(ledger, step)
    _evaluate(step, marker, candidate)


def _evaluate(step: Step, marker: SpanMarker, candidate: Candidate) -> None:
    marker.begin("evaluate")
    step.evaluate(replace(_blank_batch(candidate), views=None))


def _check_evaluation(step: Step, ledger: Ledger, marker: SpanMarker, candidate: Candidate) -> None:
    """Refuse a step that leaves something behind whenever it evaluates.

    It comes last in the program, so no peak shows what is left of it. A model may keep something
    for good as it evaluates for the first time, and something until it trains again (attention
    biases of timm's LeViT): what a second evaluation leaves to a student that trains tells.
    """
    spans = {birth.span for birth in ledger.alive_since(0)} - {-1}
    if not any(ledger.spans[span].part == "evaluate" for span in spans):
        return
    again = len(ledger.births)
    _evaluate(step, marker, candidate)
    step.student.train()
    gc.collect()  # cycles are no leak, and none is collected while a step is traced
    if left := ledger.alive_since(again):
        what = max(left, key=lambda birth: birth.size_bytes)
        raise Untraceable(
            f"{what.size_bytes} B that evaluating leaves on the device each time "
            f"({' in '.join(word for word in (what.op, what.module) if word)}) can't be traced"
        )


def _claim_models(ledger: Ledger, step: Step) -> None:
    _claim(ledger, step.student, "weights")
    if step.teacher is not None:
        _claim(ledger, step.teacher, "teacher")


def _claim(ledger: Ledger, model: nn.Module, owner: Owner) -> None:
    for tensor in [*model.parameters(), *model.buffers()]:
        ledger.claim(tensor, owner)


def _claim_state(ledger: Ledger, step: Step) -> None:
    for state in step.optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                ledger.claim(value, "optimizer_state")
    for name in ("_scale", "_growth_tracker"):  # the scaler's, once it has scaled something
        if isinstance(value := getattr(step.scaler, name, None), Tensor):
            ledger.claim(value, "optimizer_state")


def _blank_batch(candidate: Candidate) -> Batch:
    """A black batch of the right shape, all of the first class."""
    size, channels = candidate.input.source_size, candidate.student.channels
    rows = np.arange(candidate.micro_batch)
    views = views_of(candidate.input, rows, seed=0, epoch=0)
    return Batch(
        torch.zeros((candidate.micro_batch, channels, size, size), dtype=torch.uint8),
        torch.zeros(
            labels_shape(candidate.input, candidate.micro_batch, candidate.student.classes),
            dtype=torch.int64,
        ),
        views,
        made_up_logits(candidate, candidate.micro_batch),
    )


def _models(candidate: Candidate) -> tuple[nn.Module, nn.Module | None]:
    """The student, and the teacher where the run asks it itself."""
    student = _on_meta(candidate.student, candidate.checkpointing, candidate.patch_drop_rate)
    if candidate.teacher is None or candidate.teacher_logits == "cached":
        return student, None
    return student, _on_meta(candidate.teacher, 0)


def _on_meta(
    spec: ModelSpec, checkpointing: Checkpointing, patch_drop_rate: float = 0.0
) -> nn.Module:
    """The model without its numbers, which would take time and memory and are not needed.

    A copy of its own, which takes a quarter of the time of building it: moving makes it fake.
    """
    return copy.deepcopy(_built(spec, checkpointing, patch_drop_rate))


@lru_cache(maxsize=8)
def _built(spec: ModelSpec, checkpointing: Checkpointing, patch_drop_rate: float) -> nn.Module:
    with torch.device("meta"):
        model = build(spec, checkpointing=checkpointing, patch_drop_rate=patch_drop_rate)
    refuse_hooks_of(model)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection, no warnings that CUDA is missing, no log of what is raised anyway."""
    # A collection comes after so many allocations of Python, wherever that is. It frees cycles
    # at another birth each time, so two traces of one step would not be the same program.
    was_enabled = gc.isenabled()
    gc.disable()
    logged_before, FAKE_LOG.disabled = FAKE_LOG.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        FAKE_LOG.disabled = logged_before
        if was_enabled:
            gc.enable()
