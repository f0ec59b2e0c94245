"""The choice: the fastest that is safe, and why the others lost."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.probe.choose import choose, is_level, verdict
from distill.base.errors import NoSafeChoice
from tests.bench.conftest import predicted_timing

EFFECTIVE = {"teacher": 128}
reuse = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_fastest_safe_one_wins(make_trial, budget) -> None:
    slow, fast = make_trial(1000, 16, 80.0), make_trial(3000, 32, 100.0)
    too_large = make_trial(6000, 64, 120.0)
    assert choose([slow, fast, too_large], ["teacher"], budget, EFFECTIVE)["teacher"] == fast


def test_of_equally_fast_ones_the_one_with_more_headroom_wins(make_trial, budget) -> None:
    large, small = make_trial(3000, 32), make_trial(2000, 16)
    assert choose([large, small], ["teacher"], budget, EFFECTIVE)["teacher"] == small


def test_what_was_measured_goes_before_what_is_only_a_bound(make_trial, budget) -> None:
    bound, measured = make_trial(3000, 32, 500.0), make_trial(3000, 16, 90.0, measured=True)
    assert choose([bound, measured], ["teacher"], budget, EFFECTIVE)["teacher"] == measured


def test_times_that_overlap_leave_the_choice_to_memory(make_trial, budget) -> None:
    fast = make_trial(3000, 32, measured=True, seconds=(0.9, 1.0, 1.3))
    small = make_trial(2000, 16, measured=True, seconds=(1.0, 1.2, 1.25))
    apart = make_trial(1000, 8, measured=True, seconds=(1.5, 1.6, 1.7))
    assert fast.images_per_second > small.images_per_second > apart.images_per_second
    assert choose([fast, small, apart], ["teacher"], budget, EFFECTIVE)["teacher"] == small
    steady = make_trial(3000, 32, measured=True, seconds=(0.9, 0.9, 0.9))
    assert choose([steady, small, apart], ["teacher"], budget, EFFECTIVE)["teacher"] == steady


def timed(trial, timing):
    return replace(trial, reading=replace(trial.reading, timing=timing))


def test_predicted_times_that_are_nearly_equal_leave_the_choice_to_memory(
    make_trial, budget
) -> None:
    fast = timed(make_trial(3000, 32), predicted_timing(1.000))
    near = timed(make_trial(2000, 16), predicted_timing(1.001))
    slow = timed(make_trial(1000, 8), predicted_timing(1.004))
    assert choose([fast, near, slow], ["teacher"], budget, EFFECTIVE)["teacher"] == near


@pytest.mark.parametrize(("source", "chosen"), [("assumed", 32), ("measured", 16)])
def test_a_batch_that_a_slower_host_would_hold_up_is_not_level(
    make_trial, budget, source, chosen
) -> None:
    large = timed(make_trial(3000, 32), predicted_timing(1.0, 0.3, source))
    small = timed(make_trial(2000, 16), predicted_timing(1.001, 0.6, source))
    found = choose([large, small], ["teacher"], budget, EFFECTIVE)["teacher"]
    assert found.candidate.micro_batch == chosen


def test_the_fastest_is_level_with_itself_though_a_slower_host_would_hold_it_up(
    make_trial, budget
) -> None:
    only = timed(make_trial(3000, 32), predicted_timing(1.0, 0.9))
    assert choose([only], ["teacher"], budget, EFFECTIVE)["teacher"] == only


def test_of_the_same_memory_the_faster_median_is_chosen(make_trial, budget) -> None:
    slow = make_trial(3000, 32, measured=True, seconds=(0.9, 1.1, 1.3))
    fast = make_trial(3000, 32, measured=True, seconds=(0.9, 1.0, 1.3), precision="bf16")
    assert choose([slow, fast], ["teacher"], budget, EFFECTIVE)["teacher"] == fast


def test_wide_quartiles_are_told(make_trial, budget) -> None:
    wide = make_trial(3000, 32, measured=True, seconds=(1.0, 1.5, 2.0))
    assert verdict(wide, budget, 128).words == "safe, unsteady"
    assert verdict(wide, budget, 128).eligible


@reuse
@given(
    st.lists(
        st.tuples(
            st.integers(1, 5000),
            st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]),
            st.lists(st.floats(0.05, 5), min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_difference_within_the_spread_decides(make_trial, budget, raw) -> None:
    trials = [
        make_trial(peak, batch, measured=True, seconds=tuple(seconds))
        for peak, batch, seconds in raw
    ]
    chosen = choose(trials, ["teacher"], budget, EFFECTIVE)["teacher"]
    fastest = max(trials, key=lambda trial: trial.images_per_second)
    assert is_level(chosen, fastest)
    for other in trials:
        if other.reading.safe_bytes < chosen.reading.safe_bytes:
            assert not is_level(other, fastest)
            assert other.quartiles.lower_seconds > fastest.quartiles.upper_seconds


@pytest.mark.parametrize(
    ("peak_mib", "batch", "outcome", "words"),
    [
        (5008, 32, "ok", "1 MiB too large"),
        (3000, 256, "ok", "fits, but an update has 128"),
        (3000, 48, "ok", "fits, but does not divide 128"),
        (3000, 32, "crash", "crash"),
        (3000, 32, "thrash", "thrash"),
    ],
)
def test_each_loser_is_told_why(make_trial, budget, peak_mib, batch, outcome, words) -> None:
    judged = verdict(make_trial(peak_mib, batch, outcome=outcome), budget, 128)
    assert (judged.words, judged.eligible) == (words, False)


def test_exactly_the_limit_fits(make_trial, budget) -> None:
    assert verdict(make_trial(budget.limit_bytes // 2**20), budget, 128).eligible


def test_a_stage_without_a_safe_one_is_one_sentence(make_trial, budget) -> None:
    with pytest.raises(NoSafeChoice, match="Stage teacher has no configuration within 5007 MiB"):
        choose([make_trial(9000)], ["teacher"], budget, EFFECTIVE)


@reuse
@given(
    st.lists(
        st.tuples(
            st.integers(1, 9000), st.sampled_from([1, 2, 8, 32, 48, 128, 256]), st.floats(1, 1000)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_is_chosen_is_safe_divides_and_none_safe_is_faster(
    make_trial, budget, raw
) -> None:
    trials = [make_trial(peak, batch, speed) for peak, batch, speed in raw]
    safe = [t for t in trials if verdict(t, budget, 128).eligible]
    if not safe:
        with pytest.raises(NoSafeChoice):
            choose(trials, ["teacher"], budget, EFFECTIVE)
        return
    chosen = choose(trials, ["teacher"], budget, EFFECTIVE)["teacher"]
    assert chosen.reading.safe_bytes <= budget.limit_bytes
    assert chosen.candidate.micro_batch * chosen.candidate.accumulation == 128
    assert chosen.images_per_second == max(t.images_per_second for t in safe)
