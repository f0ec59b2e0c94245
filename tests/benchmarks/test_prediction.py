"""Seconds per prediction, with the peak that was predicted in each case's `extra_info`.

python -m pytest tests/benchmarks --benchmark-enable --benchmark-json=FILE
"""

from dataclasses import replace

import pytest

from bench.card.targets import target_named
from bench.simulate.cache import TraceCache
from bench.simulate.prediction import Prediction
from bench.simulate.predictor import Predictor
from distill.spec.candidate import Allocator, Candidate
from distill.spec.recipe import load_recipe

RTX4050 = target_named("rtx4050")


def candidate(stage: str) -> Candidate:
    return replace(
        load_recipe("cifar10").candidate(stage, micro_batch=16),
        accumulation=1,
        precision="fp16",
        implementation="fused",
    )


def kept(benchmark, prediction: Prediction) -> None:
    benchmark.extra_info["peak_allocated_bytes"] = prediction.allocated
    benchmark.extra_info["peak_reserved_bytes"] = prediction.reserved
    assert 0 < prediction.allocated <= prediction.reserved


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_one_configuration_traced_anew(benchmark, stage: str) -> None:
    def ask() -> Prediction:
        return Predictor(RTX4050, "expandable", TraceCache(None)).predict(candidate(stage))

    kept(benchmark, benchmark.pedantic(ask, rounds=5, warmup_rounds=1))


@pytest.mark.slow
def test_one_configuration_read_from_the_cache(benchmark) -> None:
    Predictor(RTX4050, "expandable").predict(candidate("teacher"))

    def ask() -> Prediction:
        return Predictor(RTX4050, "expandable").predict(candidate("teacher"))

    kept(benchmark, benchmark(ask))


def covering(allocator: Allocator = "expandable") -> Predictor:
    """One that has its traces and has been asked nothing."""
    predictor = Predictor(RTX4050, allocator)
    predictor.fit_family(candidate("teacher"))
    return predictor


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ["expandable", "native"])
def test_one_more_batch_size(benchmark, allocator: str) -> None:
    predictor = covering(allocator)
    fresh = iter(range(17, 10_000))  # what was asked before is remembered

    def ask() -> Prediction:
        return predictor.predict(replace(candidate("teacher"), micro_batch=next(fresh)))

    kept(benchmark, benchmark.pedantic(ask, rounds=12, warmup_rounds=1))


@pytest.mark.slow
def test_the_largest_batch_that_fits(benchmark) -> None:
    def ask(predictor: Predictor) -> int:
        return predictor.largest_batch(candidate("teacher"), 5007 * 2**20)

    largest = benchmark.pedantic(ask, setup=lambda: ((covering(),), {}), rounds=5)
    benchmark.extra_info["largest_batch"] = largest
    assert largest > 8
