"""The largest batch: the last before the first that does not fit, wherever growth dips."""

from hypothesis import given
from hypothesis import strategies as st

from bench.simulate.largest_batch import EDGE, EDGE_EXPANDABLE, largest_below_first_misfit
from distill.base.units import MIB


@given(
    start=st.integers(1, 5000),
    slope=st.integers(1, 400),
    bumps=st.dictionaries(st.integers(1, 600), st.integers(0, 300), max_size=40),
    limit=st.integers(1, 6000),
    edge=st.sampled_from([EDGE, EDGE_EXPANDABLE]),
)
def test_it_is_the_last_before_the_first_misfit_near_the_limit(
    start, slope, bumps, limit, edge
) -> None:
    asked: list[int] = []

    def needed(batch: int) -> int:
        asked.append(batch)
        return (start + slope * batch + bumps.get(batch, 0)) * MIB

    largest = largest_below_first_misfit(needed, limit * MIB, edge=edge)
    assert largest == 0 or needed(largest) <= limit * MIB
    assert needed(largest + 1) > limit * MIB
    near = range(max(2, largest - edge), largest)
    assert all(needed(batch) <= limit * MIB for batch in near)
    assert len(set(asked)) <= (len(bumps) + 1) * (edge + 40)  # a window for each dip


def test_nothing_fits_below_the_weights() -> None:
    assert largest_below_first_misfit(lambda batch: 10 + batch, 5) == 0


def test_one_image_alone_is_asked_about_only_where_two_do_not_fit() -> None:
    asked: list[int] = []

    def needed(batch: int) -> int:
        asked.append(batch)
        return batch

    assert largest_below_first_misfit(needed, 9) == 9 and 1 not in asked
    assert largest_below_first_misfit(needed, 1) == 1 and 1 in asked


@given(st.integers(1, 3000))
def test_no_more_than_are_taken(most: int) -> None:
    asked: list[int] = []

    def needed(batch: int) -> int:
        asked.append(batch)
        return batch

    assert largest_below_first_misfit(needed, 5000, most) == most
    assert max(asked) <= max(most, 1)
