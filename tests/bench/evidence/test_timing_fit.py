"""Predicted times of updates held against those that a card took."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.card.targets import target_named
from bench.evidence.timing_fit import (
    NONE_YET,
    TimedUpdate,
    calibrated_target,
    timed_machines,
    timed_update,
    timed_updates,
    timing_table,
)
from bench.simulate.program.constants_fit import fitted
from bench.simulate.program.program import Cost, Program, Span, make_program
from distill.base.errors import UserError
from distill.spec.calibration import ASSUMED, Calibration
from tests.conftest import ROOT

H200 = ROOT / "results" / "evidence" / "h200"
TARGET = target_named("h200")
SMALL, LARGE = (
    Cost(0, flops=0, traffic_bytes=1000, half=False),
    Cost(0, flops=10**11, traffic_bytes=1000, half=True),
)


def program(large: int, small: int) -> Program:
    """So many products and so many small ops in a micro-batch."""
    spans = [Span("forward", part) for part in ("again", "more", "update", "evaluate")]
    ops = [LARGE] * large + [SMALL] * small
    return make_program(spans, [], [], [replace(op, span=n) for n in range(4) for op in ops])


def updates(make_trial, truth: Calibration) -> list[TimedUpdate]:
    """Trials that took what the constants say."""
    found = []
    for large, small in ((400, 10), (10, 900), (300, 50), (30, 500), (600, 20), (5, 1500)):
        own = program(large, small)
        blank = timed_update(make_trial(1, measured=True), TARGET, own)
        seconds = (blank.predicted(truth).seconds,) * 4
        trial = make_trial(1, measured=True, seconds=seconds)
        found.append(timed_update(trial, TARGET, own))
    return found


@pytest.mark.parametrize(("efficiency", "launch"), [(0.8, 20e-6), (0.25, 120e-6)])
def test_the_constants_of_a_machine_are_found_again(
    make_trial, efficiency: float, launch: float
) -> None:
    truth = replace(ASSUMED, product_efficiency=efficiency, launch_seconds=launch)
    found = fitted(updates(make_trial, truth), "a card of a test")
    assert found.product_efficiency == pytest.approx(efficiency, rel=0.04)
    assert found.launch_seconds == pytest.approx(launch, rel=0.04)
    assert (found.source, found.machine) == ("measured", "a card of a test")


def test_a_constant_that_no_update_tells_of_stays_as_it_is_assumed(make_trial) -> None:
    truth = replace(ASSUMED, product_efficiency=0.7, launch_seconds=1e-7)
    found = fitted(updates(make_trial, truth)[:1], "a card of a test")
    assert found.product_efficiency == pytest.approx(0.7, rel=0.04)
    assert found.launch_seconds == ASSUMED.launch_seconds


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[TimedUpdate]:
    """Of the H200's trials one that the host bounds and one that products bound."""
    folder = tmp_path_factory.mktemp("h200")
    kept = {("student", "fp16", 0, 128), ("student", "fp32", 0, 128)}
    with gzip.open(H200 / "trials.jsonl.gz", "rt") as lines:
        chosen = [line for line in lines if key(json.loads(line)) in kept]
    (folder / "trials.jsonl.gz").write_bytes(gzip.compress("".join(chosen).encode()))
    return timed_updates(folder, TARGET)


def key(document: dict) -> tuple[str, str, int, int]:
    candidate = document["candidate"]
    names = ("stage", "precision", "checkpointing", "micro_batch")
    return tuple(candidate[name] for name in names)


@pytest.mark.slow
def test_updates_of_a_card_are_predicted_within_15_percent(two: list[TimedUpdate]) -> None:
    assert len(two) == 2
    errors = [abs(one.error(ASSUMED)) for one in two]
    assert max(errors) < 0.15, errors
    first = {o.trial.candidate.label: next(iter(o.predicted(ASSUMED).shares)) for o in two}
    assert first == {"fp16": "host launches", "fp32": "products"}


def test_where_no_card_timed_anything_one_sentence_says_so(tmp_path: Path) -> None:
    assert timing_table(timed_machines(tmp_path)) == NONE_YET
    (tmp_path / "host.json").write_text('{"card": null, "cores": 2}')
    assert timing_table(timed_machines(tmp_path)) == NONE_YET


@pytest.mark.parametrize("content", [b"torn", gzip.compress(b"{")], ids=["torn", "no JSON"])
def test_a_journal_that_can_t_be_read_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    shutil.copy(H200 / "host.json", tmp_path)
    (tmp_path / "trials.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match="Cannot read trials from"):
        timing_table(timed_machines(tmp_path))


def test_few_trials_fit_nothing_and_are_held_against_what_is_assumed(
    make_trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(H200 / "host.json", tmp_path)
    few = updates(make_trial, ASSUMED)[:3]
    monkeypatch.setattr("bench.evidence.timing_fit.timed_updates", lambda folder, target: few)
    text = timing_table(timed_machines(tmp_path))
    assert text.startswith(f"NVIDIA H200 with 16 cores, 3 timed trials. {ASSUMED.words}.")
    assert "unseen (3) median 0.0%" in text and "fitted to" not in text
    assert calibrated_target(timed_machines(tmp_path)) is None


def test_the_table_tells_what_was_fitted_and_what_was_not_seen(
    make_trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(H200 / "host.json", tmp_path)
    many = [u for _ in range(2) for u in updates(make_trial, ASSUMED)]
    monkeypatch.setattr("bench.evidence.timing_fit.timed_updates", lambda folder, target: many)
    text = timing_table(timed_machines(tmp_path))
    assert text.count("| unseen") == text.count("| fitted to") == 6
    assert "- teacher: fp16 32 × 4 would be chosen" in text
    target = calibrated_target(timed_machines(tmp_path))
    assert target is not None and target.calibration is not None
    assert target.calibration.machine == "NVIDIA H200 with 16 cores"
