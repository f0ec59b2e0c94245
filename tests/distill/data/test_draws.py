"""Random numbers that have no position to lose."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distill.data import draws

seeds, epochs = st.integers(0, 2**63), st.integers(0, 10_000)


@given(seeds, epochs, st.integers(1, 300), st.data())
def test_a_sample_draws_the_same_in_any_company(seed, epoch, count, data) -> None:
    everyone = np.arange(count)
    some = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    whole = draws.below(9, seed, epoch, everyone, "offset_x")
    assert np.array_equal(whole[some], draws.below(9, seed, epoch, np.array(some), "offset_x"))


@given(seeds, epochs, st.integers(1, 300))
def test_an_epoch_visits_every_sample_once(seed, epoch, count) -> None:
    assert sorted(draws.order(count, seed, epoch)) == list(range(count))


def test_epochs_seeds_and_purposes_draw_apart() -> None:
    samples = np.arange(1000)
    base = draws.bits(0, 0, samples, "flip")
    for other in (
        draws.bits(1, 0, samples, "flip"),
        draws.bits(0, 1, samples, "flip"),
        draws.bits(0, 0, samples, "offset_x"),
    ):
        assert not np.any(base == other)


def test_draws_are_even() -> None:
    counts = np.bincount(draws.below(5, 0, 0, np.arange(50_000), "offset_y"), minlength=5)
    assert counts.min() > 9_600 and counts.max() < 10_400
