"""Parts traced once, put together as runs of any length: equal to tracing those runs."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from bench.card.targets import target_named
from bench.simulate.kernels import KernelContext, KernelTable
from bench.simulate.program import arrange as arranging
from bench.simulate.program.arrange import Order, arrange, batches, training_run
from bench.simulate.program.program import NEVER, Program
from bench.simulate.replay import Replay, replay
from bench.simulate.trace import tracer
from bench.simulate.trace.tracer import trace_step
from distill.spec.candidate import Candidate
from distill.spec.file_values import OWNERS
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe


def kernels(candidate: Candidate) -> KernelTable:
    target = target_named("rtx4050")
    pins = pins_for(
        candidate.precision, target.compute_capability, deterministic=False, allocator="native"
    )
    return KernelTable(KernelContext(target, pins, False))


@pytest.fixture(scope="module", params=[("teacher", "fp16", 1), ("assistant", "fp32", 0)])
def traced(request) -> tuple[Candidate, Program]:
    stage, precision, checkpointing = request.param
    wanted = replace(
        load_recipe("cifar10").candidate(stage, micro_batch=4),
        precision=precision,
        checkpointing=checkpointing,
        implementation="fused",
    )
    attention = "flash" if precision == "fp16" else "efficient"
    return wanted, trace_step(wanted, attention=attention, kernels=kernels(wanted))


def two_updates(candidate: Candidate) -> Order:
    """The beginning of a run, without the end of an epoch."""
    order = training_run(candidate)
    return order[: order.index(("update", "train")) + 1]


def played(traced: tuple[Candidate, Program], accumulation: int, kind: str) -> Replay:
    wanted, program = traced
    wanted = replace(wanted, accumulation=accumulation)
    whole = arrange(program, two_updates(wanted))
    sizes = whole.sizes(batches(wanted), kernels(wanted).size)
    return replay(whole, sizes, kind)


def test_in_the_traced_order_nothing_changes(traced) -> None:
    _, program = traced
    parts = ["setup", "first", "more", "first_update", "again", "update", "evaluate"]
    same = arrange(program, [(part, "train") for part in parts])
    assert same.spans == program.spans
    for name in ("base", "slope", "death", "span_of", "owner_of"):
        assert np.array_equal(getattr(same, name), getattr(program, name)), name
    assert same.formulas == program.formulas


@pytest.mark.parametrize("kind", ["expandable", "native"])
def test_a_further_micro_batch_leaves_the_peak_where_it_is(traced, kind) -> None:
    few = played(traced, arranging.REPEATED + 1, kind)
    with mock.patch.object(arranging, "REPEATED", 12):
        many = played(traced, 13, kind)
    assert (few.reserved, few.allocated, few.requested) == (
        many.reserved,
        many.allocated,
        many.requested,
    )
    assert few.segment_events == many.segment_events


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["expandable", "native"])
@pytest.mark.parametrize("accumulation", [2, 3, 4, 9])
def test_passing_over_what_is_the_same_again_changes_nothing(traced, kind, accumulation) -> None:
    wanted, program = traced
    wanted = replace(wanted, accumulation=accumulation, images_per_epoch=8 * accumulation + 7)
    with mock.patch.object(arranging, "REPEATED", 12):
        whole = arrange(program, training_run(wanted))
    sizes = whole.sizes(batches(wanted), kernels(wanted).size)
    quick = replay(whole, sizes, kind)
    slow = replay(replace(whole, repeats={}), sizes, kind)
    assert bool(whole.repeats) == (accumulation > 2)
    for name in ("requested", "allocated", "reserved", "cap_needed", "slack", "segment_events"):
        assert getattr(quick, name) == getattr(slow, name), name
    assert (quick.peak.birth, quick.peak.owned) == (slow.peak.birth, slow.peak.owned)


def test_what_is_alive_at_most_is_what_the_replay_counts(traced) -> None:
    wanted, program = traced
    whole = arrange(program, training_run(wanted))
    sizes = whole.sizes(batches(wanted), kernels(wanted).size)
    assert whole.live_bytes(sizes).max() == replay(whole, sizes, "native").requested


def test_everything_but_weights_state_and_workspaces_is_freed(traced) -> None:
    wanted, program = traced
    whole = arrange(program, training_run(replace(wanted, accumulation=3, images_per_epoch=37)))
    left = whole.death == NEVER
    assert {OWNERS[owner] for owner in whole.owner_of[left]} <= {
        "weights",
        "optimizer_state",
        "teacher",
        "workspaces",
        "temporaries",
    }
    mean_and_std = whole.base[left & (whole.owner_of == OWNERS.index("temporaries"))]
    assert mean_and_std.tolist() == [12, 12]


@pytest.mark.slow
def test_one_micro_batch_an_update_is_what_is_traced_of_it(traced) -> None:
    """Leaving the second micro-batch out equals a program that never had one."""
    wanted, program = traced

    def one_each(step, ledger, marker, candidate) -> None:
        for parts in (("first", "first_update"), ("again", "update")):
            marker.begin(*parts)
            step.train([tracer._blank_batch(candidate)])
            tracer._claim_state(ledger, step)

    attention = "flash" if wanted.precision == "fp16" else "efficient"
    with mock.patch.object(tracer, "_run_parts", one_each):
        direct = trace_step(wanted, attention=attention, kernels=kernels(wanted))
    derived = arrange(program, two_updates(replace(wanted, accumulation=1)))
    for name in ("base", "death", "span_of", "owner_of"):
        assert np.array_equal(getattr(direct, name), getattr(derived, name)), name


@pytest.mark.parametrize(
    ("images", "micro", "accumulation", "last"),
    [
        (64, 8, 4, []),
        (70, 8, 4, [("again", "last")]),
        (72, 8, 4, [("again", "train")]),
        (90, 8, 4, [("again", "train")] + [("more", "train")] * 2 + [("more", "last")]),
        (None, 8, 4, []),
    ],
)
def test_an_epoch_ends_with_what_it_leaves(traced, images, micro, accumulation, last) -> None:
    candidate = replace(
        traced[0], micro_batch=micro, accumulation=accumulation, images_per_epoch=images
    )
    before = len(two_updates(candidate))
    ends = (*last, *([("update", "train")] if last else []), ("evaluate", "evaluate"))
    assert training_run(candidate)[before:] == ends
    if images is not None and images % micro:
        assert batches(candidate)["last"] == images % micro
