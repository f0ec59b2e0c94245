"""Rivals timed in turn, on an imaginary machine that is slower in one process than in the next."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.probe.choose import best_of, is_level
from bench.probe.turns import CLOSE, MOST, PROCESSES, joined, take_turns
from bench.trials.trial import Measured, Round, Trial

EFFECTIVE = 128
reuse = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def rounds(make_trial, budget):
    """Takes turns among trials, given by (peak, seconds); also gives the order of the turns.

    `later` says what a further process reads of a trial in its n-th turn.
    """

    def take(first, later=lambda trial, turn: trial):
        trials = [
            make_trial(peak, 2**n, measured=True, seconds=seconds)
            for n, (peak, seconds) in enumerate(first)
        ]
        original = {trial.candidate: trial for trial in trials}
        order = []

        def again(trial: Trial, turn: int) -> Trial:
            order.append((trials.index(original[trial.candidate]), turn))
            return replace(later(original[trial.candidate], turn), turn=turn)

        return take_turns(trials, budget, EFFECTIVE, again), order

    return take


def test_the_fastest_is_timed_by_a_second_process_even_where_nothing_is_close(rounds) -> None:
    found, order = rounds([(1000, (1.0,) * 4), (500, (2.0,) * 4)])
    assert order == [(0, 1)]
    assert [trial.timing.processes for trial in found] == [2, 1]
    assert [trial.timing.updates for trial in found] == [8, 4]


def test_rivals_alternate_as_long_as_the_spread_leaves_the_order_open(rounds) -> None:
    found, order = rounds([(1000, (1.0, 1.2)), (500, (1.1, 1.3)), (2000, (5.0, 5.0))])
    assert order == [(0, 1), (1, 1), (0, 2), (1, 2)]
    assert [trial.timing.processes for trial in found] == [3, 3, 1]


def test_what_is_close_but_not_within_the_spread_is_timed_once_more(rounds) -> None:
    _, order = rounds([(1000, (1.0,) * 3), (2000, (CLOSE - 0.01,) * 3), (500, (CLOSE + 0.01,) * 3)])
    assert order == [(0, 1), (1, 1)]


def test_what_would_be_chosen_is_timed_again_before_others_that_are_faster(rounds) -> None:
    wide = [(1000 - n, (1.0 + n / 100, 1.3)) for n in range(3)]
    _, order = rounds([*wide, (500, (1.1, 1.3))])
    assert order[:3] == [(0, 1), (3, 1), (1, 1)]


def test_a_process_that_was_slow_by_chance_loses_nothing(rounds) -> None:
    """Twice as slow in the search's process, and as fast as it is in two others."""

    def later(trial: Trial, turn: int) -> Trial:
        return replace(trial, reading=replace(trial.reading, step_seconds=(0.8,) * 3))

    found, _ = rounds([(1000, (1.0,) * 3), (2000, (1.2,) * 3)], later)
    assert found[1].quartiles is not None and found[1].quartiles.median_seconds == 0.8


@pytest.mark.parametrize("outcome", ["oom", "thrash", "crash", "timeout"])
def test_a_turn_that_fails_makes_the_configuration_unsafe(rounds, outcome: str) -> None:
    def later(trial: Trial, turn: int) -> Trial:
        return replace(trial, outcome=outcome, reading=None, error="why")

    found, order = rounds([(1000, (1.0,) * 3), (500, (2.0,) * 3)], later)
    assert order == [(0, 1), (1, 1)]
    assert [trial.outcome for trial in found] == [outcome] * 2
    assert found[0].reading is not None and found[0].error == "why"


def test_a_disturbed_turn_tells_nothing(make_trial) -> None:
    trial = make_trial(1000, measured=True)
    assert joined(trial, replace(trial, outcome="contaminated", turn=1)) == trial


def test_where_nothing_is_safe_nothing_is_timed_again(rounds) -> None:
    assert rounds([(9000, (1.0,) * 3)])[1] == []


def test_joined_readings_hold_both(make_trial) -> None:
    def reading(**changes) -> Measured:
        return replace(Measured(rounds=(Round(first_step=0, began_seconds=1),)), **changes)

    one = replace(
        make_trial(1, measured=True),
        reading=reading(
            step_seconds=(1.0, 2.0),
            reserved_bytes=10,
            card_seconds=0.9,
            settled=True,
            missing={"launches": "not asked for", "process_bytes": "a container"},
        ),
    )
    other = replace(
        one,
        turn=1,
        reading=reading(
            step_seconds=(3.0,), reserved_bytes=12, card_seconds=0.8, launches=70, settled=False
        ),
    )
    whole = joined(one, other)
    found = whole.reading
    assert isinstance(found, Measured) and whole.turn == 1
    assert found.step_seconds == (1.0, 2.0, 3.0)
    assert [r.first_step for r in found.rounds] == [0, 2]
    assert (found.reserved_bytes, found.card_seconds, found.launches) == (12, 0.8, 70)
    assert found.settled is False and found.missing == {"process_bytes": "a container"}


@reuse
@given(
    first=st.lists(
        st.tuples(
            st.integers(1, 6000), st.lists(st.floats(0.5, 2), min_size=1, max_size=6).map(tuple)
        ),
        min_size=1,
        max_size=8,
    ),
    seconds=st.lists(st.floats(0.5, 2), min_size=MOST, max_size=MOST),
)
def test_turns_are_few_and_the_choice_rests_on_two_processes_where_they_suffice(
    rounds, budget, first, seconds
) -> None:
    drawn = iter(seconds)

    def later(trial: Trial, turn: int) -> Trial:
        return replace(trial, reading=replace(trial.reading, step_seconds=(next(drawn),) * 3))

    found, order = rounds(first, later)
    assert len(order) <= MOST
    assert len(set(order)) == len(order) and all(0 < turn < PROCESSES for _, turn in order)
    safe = [t for t in found if t.reading.safe_bytes <= budget.limit_bytes]
    if safe and len(order) < MOST:
        fastest, chosen = max(safe, key=lambda t: t.images_per_second), best_of(safe)
        assert fastest.timing.processes > 1 and chosen.timing.processes > 1
        assert is_level(chosen, fastest)
