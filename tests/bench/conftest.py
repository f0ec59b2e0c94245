"""Trials as values, for decisions that are tested without torch."""

from dataclasses import replace

import pytest

from bench.card.targets import assumed_budget, target_named
from bench.probe.grid import families
from bench.trials import Conditions, Reading, Trial
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.profile import Budget
from distill.spec.recipe import load_recipe

MIB = 2**20
CONDITIONS = Conditions(card="rtx4050", driver=None, cap_bytes=None, torch="2", timm="1", code="c")


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
        candidate = replace(family.with_batch(batch, 128), **changes)
        peak = peak_mib * MIB
        reading = Reading(
            source="measured" if measured else "predicted",
            requested_bytes=peak,
            allocated_bytes=peak,
            reserved_bytes=peak,
            breakdown={"weights": peak},
            bound_images_per_second=None if measured else speed,
            step_seconds=(candidate.effective_batch / speed,) * 3 if measured else (),
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
