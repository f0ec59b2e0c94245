"""The buckets that gradients are sent in, put into the program of one process."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.simulate.predictor import Predictor
from bench.simulate.program.buckets import BUCKET_BYTES, FIRST_BUCKET_BYTES, bucket_sizes
from bench.simulate.program.program import NEVER
from distill.base.units import MIB
from distill.spec.candidate import Candidate
from tests.driver.recordings import TARGET


@given(st.lists(st.integers(1, 40 * MIB)))
def test_every_gradient_has_its_place_in_a_bucket(gradients: list[int]) -> None:
    found = bucket_sizes(gradients)
    assert sum(found) == sum(gradients)
    for size, limit in zip(
        found[:-1], [FIRST_BUCKET_BYTES, *[BUCKET_BYTES] * len(found)], strict=False
    ):
        assert limit <= size < limit + max(gradients)


@pytest.mark.parametrize("accumulation", [1, 2, 5])
def test_one_of_two_processes_holds_the_buckets_beside_what_it_held(
    small_candidate: Candidate, accumulation: int
) -> None:
    wanted = replace(small_candidate, accumulation=accumulation)
    alone, one_of_two = (Predictor(TARGET, "expandable", replicas=count) for count in (1, 2))
    program, _ = alone.run(wanted)
    shared, _ = one_of_two.run(wanted)
    buckets = np.flatnonzero(shared.op == "DistributedDataParallel")
    first, *rebuilt = shared.base[buckets].tolist()
    assert first == sum(rebuilt)
    assert shared.death[buckets[0]] == buckets[1]
    assert set(shared.death[buckets[1:]]) == {NEVER}
    others = np.delete(np.arange(len(shared)), buckets)
    assert (shared.base[others] == program.base).all()
    assert (shared.death[others] > others).sum() == (program.death != NEVER).sum()
    before, after = (one.predict(wanted) for one in (alone, one_of_two))
    assert before.requested < after.requested <= before.requested + first
