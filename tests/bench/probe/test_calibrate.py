"""The constants of a machine, from updates that were timed on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure.isolate import Ended, Runner, run_trial
from bench.measure.jobs import TrialJob
from bench.measure.warm_up import WarmUp
from bench.probe.calibrate import calibrated, small_update
from bench.probe.make_profile import Probed
from bench.trials.trial import Trial
from distill.spec.calibration import ASSUMED
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from tests.bench.conftest import CONDITIONS, forked_child, predicted_timing
from tests.bench.probe.test_measure_grid import probe_of


@pytest.fixture
def timed(small_candidate: Candidate) -> Trial:
    """A real step in a real child, on the CPU."""
    job = TrialJob(
        candidate=small_candidate,
        pins=pins_for("fp32", (8, 9), deterministic=False, allocator="expandable"),
        device="cpu",
        cap_bytes=None,
        warm_up=WarmUp(at_least=1),
        timed_steps=5,
        pause_seconds=0.0,
    )
    return run_trial(job, CONDITIONS, runner=forked_child("bench.measure.trial_child"))


@pytest.fixture
def fits_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.probe.calibrate.spawned", forked_child)


@pytest.mark.slow
def test_a_real_step_tells_what_a_launch_costs(
    timed: Trial, make_trial, tmp_path: Path, fits_are_forked: None
) -> None:
    assert timed.quartiles is not None
    plan = probe_of(tmp_path / "trials.jsonl")
    assumed = replace(make_trial(1).reading, timing=predicted_timing(1.0))
    predicted = replace(make_trial(1), candidate=timed.candidate, reading=assumed)
    probed = Probed(predicted=(predicted, make_trial(2)), measured=(timed,))
    then, after = calibrated(plan, probed, None)
    own = then.target.calibration
    assert own is not None and (own.source, own.machine) == ("measured", plan.card.name)
    assert own.product_efficiency == ASSUMED.product_efficiency  # nothing tells of it
    again = after.predicted[0].predicted_timing
    assert again is not None and next(iter(again.shares)) == "host launches"
    assert again.seconds == pytest.approx(timed.quartiles.lower_seconds, rel=0.1)
    assert after.predicted[1:] == probed.predicted[1:] and after.measured == probed.measured


def test_a_fit_that_fails_is_told_and_the_assumed_constants_stay(
    make_trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def failing(module: str) -> Runner:
        return lambda job, result, limit: Ended(1, "MemoryError: none left")

    monkeypatch.setattr("bench.probe.calibrate.spawned", failing)
    plan = probe_of(tmp_path / "trials.jsonl")
    probed = Probed(predicted=(), measured=(make_trial(1, measured=True),))
    assert calibrated(plan, probed, None) == (plan, probed)
    assert "could not be fitted (MemoryError: none left)" in capsys.readouterr().err


def test_without_a_trial_that_was_timed_nothing_changes(make_trial, tmp_path: Path) -> None:
    plan = probe_of(tmp_path / "trials.jsonl")
    probed = Probed(predicted=(make_trial(1),), measured=(make_trial(1, outcome="oom"),))
    assert calibrated(plan, probed, None) == (plan, probed)


@pytest.mark.parametrize(("capability", "precision"), [((8, 9), "bf16"), ((7, 5), "fp16")])
def test_the_small_update_is_one_image_alone(capability, precision) -> None:
    small = small_update(capability)
    assert (small.effective_batch, small.teacher, small.precision) == (1, None, precision)
