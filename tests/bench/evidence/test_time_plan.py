"""The time of the evidence: the whole plan fits, and no part takes what a later one needs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.evidence.plan import OWN, Plan, plan
from bench.evidence.time_plan import PARTS, START_SECONDS, part_times
from distill.spec.profile import read_profile
from distill.spec.recipe import load_recipe
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def whole() -> Plan:
    """The plan for the committed profile, which an H100 was given."""
    profile = read_profile(ROOT / "profiles" / "rtx4050.json")
    return plan(load_recipe(profile.recipe.name), profile.choices)


def test_the_whole_plan_takes_less_than_nine_minutes(whole: Plan) -> None:
    times = part_times(whole, 3, 9.0, side_by_side=True)
    assert [one.part for one in times] == list(PARTS)
    assert START_SECONDS + sum(one.expected_seconds for one in times) <= 540


def test_what_proves_the_product_comes_before_speed() -> None:
    assert PARTS == ("host", "golden", "verification", "cells", "throughput")


def test_each_part_may_take_longer_than_it_took(whole: Plan) -> None:
    """Half as long again for what comes first, though nothing before it was quicker."""
    times = part_times(whole, 3, 9.0, side_by_side=True)
    ended = START_SECONDS
    for one in times[:3]:
        ended += 1.5 * one.expected_seconds
        assert ended <= one.until_seconds, one


def test_a_second_round_of_timings_is_the_rivals_and_comes_last(whole: Plan) -> None:
    timings = whole.timings()
    second = [contestant.name for number, contestant in timings if number == 1]
    assert second == [OWN, "the write-up's", "the plainest loop"] * 3
    assert [number for number, _ in timings] == sorted(number for number, _ in timings)
    assert len(timings) == len(whole.contestants) + 9


@given(minutes=st.floats(0.01, 120), stages=st.integers(1, 3), side_by_side=st.booleans())
def test_parts_end_in_their_order_and_the_last_with_the_minutes(
    whole: Plan, minutes: float, stages: int, side_by_side: bool
) -> None:
    times = part_times(whole, stages, minutes, side_by_side=side_by_side)
    assert times[-1].until_seconds == pytest.approx(60 * minutes, abs=0.1)
    assert all(one.until_seconds <= other.until_seconds for one, other in pairwise(times))
    assert all(one.until_seconds > 0 or minutes < 0.1 for one in times)
