"""Trials as values, for decisions that are tested without torch."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from bench.card.budget import assumed_budget
from bench.card.targets import target_named
from bench.measure.isolate import KEPT_STDERR, Ended, Runner
from bench.probe.grid import families
from bench.trials.trial import Conditions, Measured, Predicted, Trial
from distill.report.tables import OWNER_TITLES
from distill.spec.calibration import ASSUMED
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.profile import Budget
from distill.spec.recipe import load_recipe
from distill.spec.step_times import PredictedTiming
from tests.forked import forked

MIB = 2**20
CONDITIONS = Conditions(card="rtx4050", driver=None, cap_bytes=None, torch="2", timm="1", code="c")


def predicted_reading(peak_bytes: int, images_per_second: float = 100.0) -> Predicted:
    """A prediction whose peaks are all the same."""
    return Predicted(
        requested_bytes=peak_bytes,
        allocated_bytes=peak_bytes,
        reserved_bytes=peak_bytes,
        reserved_max_bytes=peak_bytes,
        cap_needed_bytes=peak_bytes,
        breakdown=dict.fromkeys(OWNER_TITLES, 0) | {"weights": peak_bytes},
        bound_images_per_second=images_per_second,
    )


def predicted_timing(
    seconds: float, launching: float = 0.0, source: Literal["measured", "assumed"] = "assumed"
) -> PredictedTiming:
    """An update of products alone."""
    return PredictedTiming(
        product_seconds=seconds,
        memory_seconds=0.0,
        host_seconds=0.0,
        launches=1000,
        launching_seconds=launching,
        evaluated_per_second=1000.0,
        calibration=replace(ASSUMED, source=source),
    )


def forked_child(module: str) -> Runner:
    """As `spawned`, but the child is forked from a process that has torch loaded."""

    def run(job_path: Path, result_path: Path, time_limit_seconds: float) -> Ended:
        job = ("bench.measure.child", module, job_path, result_path)
        try:
            done = forked(*job, timeout=time_limit_seconds)
        except subprocess.TimeoutExpired:
            return Ended(None, "")
        return Ended(done.returncode, done.stderr[-KEPT_STDERR:])

    return run


@pytest.fixture
def models_are_built_anew() -> Iterator[None]:
    """For a test that plants a model: it meets no earlier one, and leaves none for later tests."""
    from bench.simulate.trace.tracer import _built  # torch, which most tests here do without

    _built.cache_clear()
    yield
    _built.cache_clear()


@pytest.fixture
def proofs_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children of a verification, where another part of the evidence is asked about."""
    monkeypatch.setattr("bench.verify.verify.spawned", forked_child)


@pytest.fixture
def budget() -> Budget:
    return assumed_budget(6)


@pytest.fixture
def family() -> Candidate:
    """ViT-Base alone, fp16, nothing checkpointed."""
    found = families(load_recipe("cifar10"), target_named("rtx4050"))
    return next(
        f for f in found if (f.stage, f.precision, f.checkpointing) == ("teacher", "fp16", 0)
    )


@pytest.fixture
def make_trial(family: Candidate):
    """A predicted or measured trial with a peak, a batch and a speed."""

    def make(peak_mib: int, batch: int = 32, speed: float = 100.0, **changes) -> Trial:
        measured = changes.pop("measured", False)
        outcome = changes.pop("outcome", "ok")
        changes_seconds = changes.pop("seconds", None)
        candidate = replace(family.with_batch(batch, 128), **changes)
        peak = peak_mib * MIB
        reading = predicted_reading(peak, speed)
        if measured:
            seconds = changes_seconds or (candidate.effective_batch / speed,) * 3
            reading = Measured(
                requested_bytes=peak,
                allocated_bytes=peak,
                reserved_bytes=peak,
                step_seconds=seconds,
            )
        pins = pins_for("fp16", (8, 9), deterministic=False, allocator="expandable")
        return Trial(
            candidate=candidate,
            conditions=CONDITIONS,
            pins=pins,
            outcome=outcome,
            reading=reading,
        )

    return make
