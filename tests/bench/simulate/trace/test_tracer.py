"""The trace is exact where it can be checked: against real storages of a real step on a CPU."""

import gc
from collections import Counter
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import init_gpu_context

from bench.simulate.predictor import FIT_BATCHES
from bench.simulate.program.fit import NotLinear, fit
from bench.simulate.program.program import NEVER, OWNERS, Birth, Program, Span, make_program
from bench.simulate.trace.ledger import Ledger
from bench.simulate.trace.tracer import trace_step, watch
from distill.spec.candidate import Candidate, Checkpointing
from distill.spec.recipe import load_recipe
from distill.step.models import build

BATCH = 2


def candidate(stage: str, checkpointing: Checkpointing) -> Candidate:
    """ViT-Tiny alone, or taught by ViT-Small, at 224 px as a CPU trains it."""
    whole = load_recipe("cifar10").candidate("student", micro_batch=BATCH)
    whole = replace(whole, precision="fp32", checkpointing=checkpointing, implementation="foreach")
    return whole if stage == "pair" else replace(whole, teacher=None)


def run_for_real(wanted: Candidate) -> Program:
    """The same parts on real tensors, backward by PyTorch's engine, real storages counted."""
    student = build(wanted.student, checkpointing=wanted.checkpointing)
    teacher = None if wanted.teacher is None else build(wanted.teacher)
    models = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    ledger = Ledger("cpu", models)
    gc.disable()
    try:
        with mock.patch("distill.step.step.inference_mode", torch.no_grad):
            return watch(ledger, wanted, student, teacher, torch.device("cpu"))
    finally:
        gc.enable()


def test_a_gpu_that_is_there_is_not_looked_at() -> None:
    wanted = load_recipe("demo").candidate("student", micro_batch=4)
    alone = trace_step(wanted, attention="efficient", device_type="cuda", in_place=True)
    init_gpu_context.cache_clear()  # makes a context, which fails where there is no card
    with mock.patch("torch.cuda.is_available", lambda: True):
        beside = trace_step(wanted, attention="efficient", device_type="cuda", in_place=True)
    assert np.array_equal(alone.base, beside.base) and np.array_equal(alone.death, beside.death)


def after_setup(program: Program) -> slice:
    """What was born after building; before it, models were already there or still had to come."""
    first = next(i for i, span in enumerate(program.spans) if span.part != "setup")
    return slice(int(np.searchsorted(program.span_of, first)), None)


def live_bytes(program: Program) -> np.ndarray:
    """Bytes alive at each birth after setup, of what was born after setup."""
    rows = after_setup(program)
    change = np.zeros(len(program) + 1, dtype=np.int64)
    change[:-1][rows] += program.base[rows]
    for birth in range(rows.start, len(program)):
        if program.death[birth] != NEVER:
            change[program.death[birth]] -= program.base[birth]
    return np.cumsum(change)[:-1][rows]


def peak_in(program: Program, phase: str | None) -> int:
    """The most that was alive within a phase, or overall."""
    spans = program.span_of[after_setup(program)]
    inside = [phase is None or program.spans[span].phase == phase for span in spans]
    return int(live_bytes(program)[inside].max())


@pytest.fixture(
    scope="module",
    params=[("alone", 0), ("alone", 1), ("alone", "cheap"), ("pair", 0), ("pair", 1)],
)
def both(request) -> tuple[Program, Program]:
    """The traced program and the one that really ran."""
    wanted = candidate(*request.param)
    traced = trace_step(wanted, attention="efficient", device_type="cpu", in_place=False)
    return traced, run_for_real(wanted)


def test_as_many_storages_of_the_same_sizes(both) -> None:
    traced, real = (program.base[after_setup(program)] for program in both)
    assert len(traced) == len(real) > 2000
    assert Counter(traced.tolist()) == Counter(real.tolist())


def test_in_the_same_order_and_freed_at_the_same_places(both) -> None:
    traced, real = both
    here, there = after_setup(traced), after_setup(real)
    assert np.array_equal(traced.base[here], real.base[there])
    shift = here.start - there.start
    deaths = real.death[there]
    assert np.array_equal(traced.death[here], np.where(deaths == NEVER, NEVER, deaths + shift))


@pytest.mark.parametrize("phase", ["forward", "backward", "update", None])
def test_the_same_peak_of_live_bytes(both, phase: str | None) -> None:
    traced, real = both
    assert peak_in(traced, phase) == peak_in(real, phase) > 0


def test_the_same_live_bytes_at_the_end_of_forward(both) -> None:
    def ends(program: Program) -> list[int]:
        spans = program.span_of[after_setup(program)]
        live = live_bytes(program)
        forward = [i for i, span in enumerate(program.spans) if span.phase == "forward"]
        return [int(live[np.flatnonzero(spans == i)[-1]]) for i in forward]

    traced, real = both
    assert ends(traced) == ends(real)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["alone", "pair"])
def test_checkpointing_lowers_the_peak_of_backward_by_at_least_30_percent(stage: str) -> None:
    peaks = [
        peak_in(
            trace_step(candidate(stage, every), attention="efficient", device_type="cpu"),
            "backward",
        )
        for every in (0, 1)
    ]
    assert peaks[1] <= 0.7 * peaks[0]


# -- on a CUDA target


def cuda_candidate(precision: str, checkpointing: int, stage: str = "student") -> Candidate:
    return replace(
        load_recipe("cifar10").candidate(stage, micro_batch=BATCH),
        precision=precision,
        checkpointing=checkpointing,
        implementation="fused",
    )


def trace_on_cuda(wanted: Candidate) -> Program:
    attention = "flash" if wanted.precision != "fp32" else "efficient"
    return trace_step(wanted, attention=attention)


def owned(program: Program, owner: str) -> int:
    """Bytes ever born for an owner."""
    return int(program.base[program.owner_of == OWNERS.index(owner)].sum())


@pytest.mark.slow
def test_weights_gradients_and_optimizer_state_are_what_the_model_says() -> None:
    wanted = cuda_candidate("fp16", 0)
    program = trace_on_cuda(wanted)
    with torch.device("meta"):
        parameters = [p.numel() for p in build(wanted.student).parameters()]
        teacher = [p.numel() for p in build(wanted.teacher).parameters()]
    assert owned(program, "weights") == 4 * sum(parameters)
    two_updates = 2 * 4 * sum(parameters)
    assert owned(program, "gradients") == two_updates
    scaler = 4 + 4
    assert owned(program, "optimizer_state") == 8 * sum(parameters) + 4 * len(parameters) + scaler
    assert owned(program, "teacher") > 4 * sum(teacher)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_autocast_copies_each_weight_and_never_the_frozen_teachers(checkpointing: int) -> None:
    program = trace_on_cuda(cuda_candidate("fp16", checkpointing))
    copies = program.owner_of == OWNERS.index("low_precision_weights")
    assert {module.split(".")[0] for module in program.module[copies]} == {"student"}
    forward = sum(
        program.spans[span].phase == "forward" and program.spans[span].part == "first"
        for span in program.span_of[copies]
    )
    assert forward == 2 * (1 + 4 * 12 + 1)  # weight and bias of patch embedding, blocks, head


def test_fp32_makes_no_low_precision_copies() -> None:
    assert owned(trace_on_cuda(cuda_candidate("fp32", 0)), "low_precision_weights") == 0


@pytest.mark.slow
def test_tracing_twice_gives_the_same_program() -> None:
    one, other = (trace_on_cuda(cuda_candidate("bf16", 1)) for _ in range(2))
    assert np.array_equal(one.base, other.base) and np.array_equal(one.death, other.death)
    assert one.formulas == other.formulas


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [0, 1])
@pytest.mark.parametrize(("stage", "precision"), [("teacher", "fp32"), ("student", "fp16")])
def test_sizes_are_a_straight_line_in_the_batch(stage, precision, checkpointing) -> None:
    wanted = cuda_candidate(precision, checkpointing, stage)
    teacher = wanted.teacher and replace(wanted.teacher, depth=3)  # the other blocks ask the same
    wanted = replace(wanted, student=replace(wanted.student, depth=3), teacher=teacher)
    at = {b: trace_on_cuda(replace(wanted, micro_batch=b)) for b in (16, 24, 2, 61)}
    fitted = fit(at[16], 16, at[24], 24)
    for batch in (2, 61):
        plain = np.setdiff1d(np.arange(len(fitted)), list(fitted.formulas))
        line = fitted.base + fitted.slope * batch
        assert np.array_equal(line[plain], at[batch].base[plain])
        for index, formula in fitted.formulas.items():
            assert formula.at(batch) == at[batch].formulas[index].dims


@pytest.mark.parametrize(
    "bent",
    [
        lambda batch: 4 * batch**2,
        lambda batch: 512 * -(-batch // 48),
        lambda batch: 4096 * min(batch, 64),
    ],
    ids=["grows with the square", "rounds up", "stops growing"],
)
def test_a_size_that_is_no_straight_line_is_found_out(bent) -> None:
    one, other = (one_birth(bent(batch)) for batch in FIT_BATCHES)
    with pytest.raises(NotLinear):
        fit(one, FIT_BATCHES[0], other, FIT_BATCHES[1])


def one_birth(size_bytes: int) -> Program:
    birth = Birth(size_bytes, "aten.mm.default", "student", 0, None)
    return make_program([Span("forward", "first")], [birth], [NEVER], [])


@pytest.mark.slow
def test_nothing_of_the_fake_cuda_stays() -> None:
    before = torch.cuda.amp.common.amp_definitely_not_available()
    trace_on_cuda(cuda_candidate("fp16", 0))
    assert torch.cuda.amp.common.amp_definitely_not_available() == before
    assert torch.ones(1).device.type == "cpu"
    assert gc.isenabled()
