"""Seconds of a step from its kernels and launches."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.card.targets import target_named
from bench.simulate.cache import TraceCache
from bench.simulate.predictor import Predictor
from bench.simulate.program.program import Cost, Program, Span, make_program
from bench.simulate.program.step_time import ENGINE_SHARE, predicted_timing
from distill.spec.calibration import ASSUMED, Calibration
from distill.spec.candidate import Candidate, InputSpec, ModelSpec
from distill.spec.profile import Target

OWN = Calibration(
    product_efficiency=0.5, launch_seconds=10e-6, source="measured", machine="a card of a test"
)
TARGET = target_named("rtx4050").model_copy(
    update={"half_flops": 2e12, "fp32_flops": 1e12, "bandwidth_bytes": 1e11, "calibration": OWN}
)
PRODUCT = Cost(0, flops=10**8, traffic_bytes=0, half=True)
"""0.1 ms at half of the peak."""
COPY = Cost(0, flops=0, traffic_bytes=10**6, half=False)
"""0.01 ms."""

CANDIDATE = Candidate(
    stage="teacher",
    student=ModelSpec(name="vit_tiny_patch16_224", classes=10, image_size=224),
    teacher=None,
    input=InputSpec(source_size=32),
    micro_batch=8,
)

costs = st.lists(
    st.builds(
        Cost,
        st.just(0),
        flops=st.integers(0, 10**8),
        traffic_bytes=st.integers(0, 10**7),
        half=st.booleans(),
        launches=st.integers(0, 3),
        by_engine=st.booleans(),
        waits=st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def program(again: Sequence[Cost], update: Sequence[Cost] = (COPY,)) -> Program:
    parts = {"again": again, "more": again, "update": update, "evaluate": again}
    spans = [Span("forward", name) for name in parts]
    found = [replace(cost, span=n) for n, part in enumerate(parts.values()) for cost in part]
    return make_program(spans, [], [], found)


def seconds_one_by_one(ops: Sequence[Cost], target: Target, calibration: Calibration) -> float:
    """The same rules, an op after the other."""
    host = card = 0.0
    for op in ops:
        share = ENGINE_SHARE if op.by_engine else 1
        host += op.launches * share * calibration.launch_seconds
        rate = target.half_flops if op.half else target.fp32_flops
        computing = op.flops / (rate * calibration.product_efficiency)
        lasts = max(computing, op.traffic_bytes / target.bandwidth_bytes) * (op.launches > 0)
        card = max(card, host) + lasts
        host = card if op.waits else host
    return card


@given(costs, costs, st.integers(1, 4))
def test_each_kernel_begins_when_it_is_launched_and_the_one_before_is_done(
    again: list[Cost], update: list[Cost], accumulation: int
) -> None:
    candidate = replace(CANDIDATE, accumulation=accumulation)
    found = predicted_timing(program(again, update), TARGET, candidate)
    expected = seconds_one_by_one([*again * accumulation, *update], TARGET, OWN)
    assert found.seconds == pytest.approx(expected, abs=1e-12)
    assert found.launches == sum(op.launches for op in [*again * accumulation, *update])
    assert sum(found.shares.values()) == pytest.approx(1 if expected else 0)


def test_large_products_bound_the_card_and_many_small_ops_the_host() -> None:
    large = predicted_timing(program([PRODUCT] * 100), TARGET, CANDIDATE)
    assert next(iter(large.shares)) == "products" and large.shares["products"] > 0.99
    small = predicted_timing(program([replace(COPY, traffic_bytes=8)] * 100), TARGET, CANDIDATE)
    assert next(iter(small.shares)) == "host launches" and small.shares["host launches"] > 0.98
    assert small.seconds == pytest.approx(101 * OWN.launch_seconds, rel=0.02)


def test_a_result_that_is_read_costs_the_lead_that_the_host_had() -> None:
    ahead = [*[PRODUCT] * 10, *[replace(COPY, traffic_bytes=8)] * 90]
    reads = [*ahead[:9], replace(PRODUCT, waits=True), *ahead[10:]]
    through, stopped = (predicted_timing(program(p), TARGET, CANDIDATE) for p in (ahead, reads))
    assert stopped.seconds - through.seconds == pytest.approx(90 * OWN.launch_seconds, rel=0.15)
    assert stopped.host_seconds > 10 * through.host_seconds


def test_what_does_not_run_on_the_card_takes_no_time() -> None:
    idle = replace(PRODUCT, launches=0)
    assert predicted_timing(program([idle]), TARGET, CANDIDATE) == predicted_timing(
        program([replace(idle, flops=0)]), TARGET, CANDIDATE
    )


def test_without_a_calibration_that_of_another_machine_is_assumed_and_named() -> None:
    plain = TARGET.model_copy(update={"calibration": None})
    found = predicted_timing(program([PRODUCT]), plain, CANDIDATE)
    assert found.calibration == ASSUMED
    assert found.calibration.words.endswith("assumed, as on an NVIDIA H200 with 16 cores")
    assert OWN.words == "products at 50 % of the peak, 10 µs a launch: measured on a card of a test"


def test_a_step_is_traced_with_its_launches(small_candidate: Candidate) -> None:
    candidate = replace(small_candidate, precision="bf16", implementation="fused")
    predictor = Predictor(target_named("rtx4050"), "expandable", TraceCache(None))
    program = predictor.program(candidate)
    ops, part = program.costs, np.array([s.phase for s in program.spans])[program.costs.span_of]
    assert not ops.by_engine[part != "backward"].any()
    assert ops.by_engine[part == "backward"].all()
    assert set(part[ops.waits]) <= {"forward", "evaluate"}
    timing = predictor.predict(candidate).timing
    assert timing.launches == ops.launches[np.isin(ops.span_of, spans_of_update(program))].sum()
    assert timing.evaluated_per_second > candidate.micro_batch / timing.seconds


def spans_of_update(program: Program) -> list[int]:
    return [n for n, span in enumerate(program.spans) if span.part in ("again", "update")]


def test_what_is_run_again_for_backward_is_asked_for_by_python(small_candidate: Candidate) -> None:
    candidate = replace(small_candidate, precision="bf16", checkpointing=1)
    predictor = Predictor(target_named("rtx4050"), "expandable", TraceCache(None))
    program = predictor.program(candidate)
    ops, part = program.costs, np.array([s.phase for s in program.spans])[program.costs.span_of]
    asked = ops.by_engine[part == "backward"]
    assert 0.2 < asked.mean() < 0.9
