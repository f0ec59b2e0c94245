"""Quartiles and what they say: unsteady, told apart or not, who waits for whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.spec.calibration import ASSUMED
from distill.spec.step_times import (
    UNSTEADY,
    WAITING,
    PredictedTiming,
    Quartiles,
    StepTiming,
    quartiles_of,
)

SECONDS = st.floats(1e-4, 1e3)
TIMES = st.lists(SECONDS, min_size=1, max_size=40)


@given(TIMES)
def test_quartiles_are_numpys_and_in_order(seconds: list[float]) -> None:
    found = quartiles_of(seconds)
    there = (found.lower_seconds, found.median_seconds, found.upper_seconds)
    assert there == pytest.approx(np.percentile(seconds, [25, 50, 75]))
    assert there == tuple(sorted(there))


@given(TIMES, st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_matter(seconds: list[float], draw) -> None:
    shuffled = list(seconds)
    draw.shuffle(shuffled)
    assert quartiles_of(shuffled) == quartiles_of(seconds)


@given(SECONDS, st.integers(1, 40))
def test_equal_times_are_steady(seconds: float, count: int) -> None:
    found = quartiles_of([seconds] * count)
    assert found.spread == 0 and not found.is_unsteady


@given(TIMES, st.floats(0.01, 100))
def test_a_slower_machine_is_no_less_steady(seconds: list[float], factor: float) -> None:
    slower = quartiles_of([factor * one for one in seconds])
    assert slower.spread == pytest.approx(quartiles_of(seconds).spread, rel=1e-9, abs=1e-9)


def test_wide_quartiles_are_unsteady_and_one_odd_update_is_not() -> None:
    assert not quartiles_of([1.0] * 11 + [9.0]).is_unsteady
    assert quartiles_of([1.0] * 6 + [1.0 + 2 * UNSTEADY] * 6).is_unsteady


@given(TIMES, TIMES)
def test_ranges_overlap_both_ways_or_one_lies_before_the_other(one, other) -> None:
    left, right = quartiles_of(one), quartiles_of(other)
    assert left.overlaps(right) == right.overlaps(left)
    apart = left.upper_seconds < right.lower_seconds or right.upper_seconds < left.lower_seconds
    assert left.overlaps(right) is not apart
    assert left.overlaps(left)


@given(SECONDS, st.floats(0, 2))
def test_an_update_is_bound_by_the_host_where_the_card_has_time_left(seconds, busy) -> None:
    only = Quartiles(lower_seconds=seconds, median_seconds=seconds, upper_seconds=seconds)
    timing = StepTiming(updates=1, processes=1, quartiles=only, card_seconds=busy * seconds)
    if abs(busy - (1 - WAITING)) > 1e-9:
        assert timing.bound_by == ("host" if busy < 1 - WAITING else "card")


def test_what_is_not_measured_binds_nobody() -> None:
    timing = StepTiming(updates=3, processes=1, quartiles=quartiles_of([1.0, 2.0, 3.0]))
    assert timing.bound_by is None and timing.launches is None


@given(st.lists(st.floats(0, 1e3), min_size=3, max_size=3).filter(any))
def test_what_bounds_an_update_is_told_in_parts_of_a_hundred(seconds: list[float]) -> None:
    products, memory, host = seconds
    told = PredictedTiming(
        product_seconds=products,
        memory_seconds=memory,
        host_seconds=host,
        launches=1,
        launching_seconds=host,
        evaluated_per_second=0.0,
        calibration=ASSUMED,
    ).words
    shares = [int(part.split()[-2]) for part in told.split(", ")]
    assert sum(shares) == 100 and all(shares)
