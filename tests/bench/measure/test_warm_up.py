"""When updates may be timed: settled times, or a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.warm_up import TOLERANCE, WINDOW, WarmUp, is_settled

TIMES = st.lists(st.floats(1e-3, 10), max_size=40)


def taken(rule: WarmUp, seconds: list[float]) -> int:
    """How many updates a warm-up takes of those that there would be."""
    return next(n for n in range(len(seconds) + 1) if rule.is_over(seconds[:n]))


@given(TIMES, st.integers(1, 5), st.integers(5, 20), st.floats(0.1, 5))
def test_a_warm_up_always_ends_within_its_bounds(times, at_least, at_most, limit) -> None:
    rule = WarmUp(at_least=at_least, at_most=at_most, limit_seconds=limit)
    seconds = [*times, *[1.0] * at_most]
    count = taken(rule, seconds)
    assert at_least <= count <= at_most
    longer_than_needed = count > at_least and not is_settled(seconds[:count])
    if longer_than_needed and count < at_most:
        assert sum(seconds[: count - 1]) < limit <= sum(seconds[:count])


@given(st.floats(1e-3, 10), st.integers(0, 10))
def test_equal_times_have_settled_after_two_windows(seconds: float, further: int) -> None:
    assert not is_settled([seconds] * (2 * WINDOW - 1))
    assert is_settled([seconds] * (2 * WINDOW + further))


@given(TIMES.filter(lambda times: len(times) >= 2 * WINDOW), st.floats(0.01, 100))
def test_the_rule_knows_no_unit_and_only_the_last_updates(times: list[float], factor) -> None:
    last = times[-2 * WINDOW :]
    assert is_settled(times) == is_settled(last)
    margin = abs(sorted(last[:WINDOW])[1] / sorted(last[WINDOW:])[1] - 1) - TOLERANCE
    if abs(margin) > 1e-9:
        assert is_settled([factor * one for one in last]) == is_settled(last)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.1, 2.0])
def test_times_that_still_fall_or_rise_have_not_settled(ratio: float) -> None:
    assert not is_settled([1.0] * WINDOW + [ratio] * WINDOW)


def test_one_odd_update_keeps_nothing_from_settling() -> None:
    assert is_settled([1.0, 5.0, 1.0, 1.0, 1.0, 0.2])


def test_a_first_update_that_loads_everything_is_waited_out() -> None:
    seconds = [1.9, 0.31, 0.12, 0.066, 0.065, 0.065, 0.064, 0.065, 0.065, 0.065]
    assert taken(WarmUp(limit_seconds=9), seconds) == 8


def test_an_update_longer_than_the_limit_is_not_repeated() -> None:
    assert taken(WarmUp(at_least=1), [3.0, 3.0]) == 1
