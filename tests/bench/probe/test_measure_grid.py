"""Measuring on a card that is imaginary: killed and resumed, disturbed, forced."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bench.card.detect import CardFacts
from bench.measure.isolate import Ended
from bench.probe.calibrate import small_update
from bench.probe.make_profile import Probed, make_profile
from bench.probe.measure_grid import measure_grid
from bench.probe.outputs import write_outputs
from bench.probe.probe import say_what_is_left_out
from bench.probe.probe_plan import ProbePlan, plan_probe
from bench.trials.journal import Journal
from bench.trials.trial import by_stage
from distill.base.signals import StopRequest
from tests.bench.probe import killed_probe
from tests.conftest import ROOT


def probe_of(journal: Path, card: CardFacts = killed_probe.CARD) -> ProbePlan:
    """A probe of the imaginary card into that journal."""
    return plan_probe(
        recipe=killed_probe.RECIPE,
        vram_gib=6,
        target=killed_probe.TARGET,
        card=card,
        allocator="expandable",
        device="cuda",
        name="here",
        journal=journal,
    )


@pytest.fixture
def plan(tmp_path: Path) -> ProbePlan:
    return probe_of(tmp_path / "trials.jsonl")


def measured(plan, journal: Journal, runner=killed_probe.run_on_card):
    grid = killed_probe.predicted()
    return measure_grid(plan, journal, grid, StopRequest(), lambda _: nullcontext(runner))


@pytest.mark.slow
def test_killed_at_20_random_moments_the_journal_ends_the_same(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.bench.probe.killed_probe", str(tmp_path), "20"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    assert told["kills"] == 20 and told["wrong"] == [] and told["lines"] > 100


@pytest.mark.slow
def test_every_cell_is_in_the_journal_once_and_a_second_probe_adds_nothing(plan) -> None:
    journal = Journal(plan.journal)
    found = measured(plan, journal)
    assert {t.candidate for t in found} == {t.candidate for t in killed_probe.predicted()}
    small = journal.done(small_update(plan.target.compute_capability), plan.measured_under)
    assert small is not None and small not in found  # it tells what a launch costs
    assert len([t for t in journal.trials if not t.turn]) == len(found) + 1
    ran = [t for t in found if t.outcome != "skipped"]
    assert 0 < len(ran) <= len(found) // 4
    again = measured(plan, Journal(plan.journal), runner=lambda *_: pytest.fail("again"))
    assert again == found and Journal(plan.journal).trials == journal.trials


def test_the_fastest_of_each_stage_are_timed_in_turn_and_launches_counted_once(plan) -> None:
    asked = []

    def noting(job_path: Path, result_path: Path, limit: float) -> Ended:
        asked.append(json.loads(job_path.read_text())["count_launches"])
        return killed_probe.run_on_card(job_path, result_path, limit)

    journal = Journal(plan.journal)
    found = measured(plan, journal, noting)
    turns = [trial.turn for trial in journal.trials if trial.outcome == "ok"]
    assert asked == [turn == 1 for turn in turns] and 2 in turns
    for stage, trials in by_stage(found).items():
        timed = [trial for trial in trials if trial.timing is not None]
        fastest = max(timed, key=lambda trial: trial.images_per_second or 0)
        assert fastest.timing.processes == fastest.timing.updates == 3, stage
        lines = [t for t in journal.trials if t.candidate == fastest.candidate]
        assert [line.turn for line in lines] == [0, 1, 2]


@pytest.mark.slow
def test_force_makes_every_trial_again(plan) -> None:
    measured(plan, Journal(plan.journal))
    before = len(Journal(plan.journal).trials)
    measured(plan, Journal(plan.journal, force=True))
    assert len(Journal(plan.journal).trials) == 2 * before


def test_a_disturbed_trial_is_made_again_and_only_the_last_is_kept(plan) -> None:
    ends = iter([True, True])

    def disturbed(job_path: Path, result_path: Path, limit: float) -> Ended:
        ended = killed_probe.run_on_card(job_path, result_path, limit)
        if next(ends, False):
            rounds = [
                {"first_step": n, "began_seconds": n, "outside_bytes": n << 30} for n in (0, 1)
            ]
            reading = {"source": "measured", "rounds": rounds}
            result_path.write_text(json.dumps({"outcome": "ok", "reading": reading}))
        return ended

    journal = Journal(plan.journal)
    found = measured(plan, journal, disturbed)
    assert next(ends, None) is None
    assert not [t for t in found if t.outcome == "contaminated"]


def test_lines_of_another_card_or_version_count_as_not_done_and_are_told(plan, capsys) -> None:
    journal = Journal(plan.journal)
    here = plan.measured_under
    trial = replace(killed_probe.predicted()[0], conditions=replace(here, driver="1"))
    journal.add([trial, replace(trial, conditions=here)])
    assert journal.done(trial.candidate, replace(here, torch="9")) is None
    say_what_is_left_out(plan, Journal(plan.journal))
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "1 line(s)" in told and "count as not done" in told


def test_the_cap_is_the_cards_own_or_says_on_what_it_is_enforced(plan) -> None:
    assert plan.cap == "native"
    large = replace(killed_probe.CARD, name="H200", total_bytes=140 << 30, others_bytes=1 << 30)
    imitating = probe_of(plan.journal, large)
    assert imitating.cap == "enforced on H200"
    assert imitating.budget.desktop_bytes == 0
    assert imitating.budget.card_total_source == "assumed"


def test_a_real_small_card_is_itself_though_it_shows_more_than_assumed(plan) -> None:
    total = round(5.66 * 2**30)
    laptop = replace(
        killed_probe.CARD,
        total_bytes=total,
        free_bytes=total - (900 << 20),
        context_bytes=200 << 20,
    )
    there = probe_of(plan.journal, laptop)
    assert there.cap == "native" and there.budget.card_total_source == "measured"
    assert there.budget.limit_bytes == total - (900 << 20) - (256 << 20)


def test_what_is_in_use_beside_the_context_is_the_desktops(plan) -> None:
    card = killed_probe.CARD
    shared = probe_of(plan.journal, replace(card, free_bytes=card.free_bytes - (700 << 20)))
    assert plan.budget.limit_bytes - shared.budget.limit_bytes == 700 << 20
    assert shared.budget.desktop_bytes == 700 << 20
    assert shared.budget.desktop_source == "measured"


@pytest.mark.slow
def test_both_pictures_and_the_findings_are_drawn_from_trials(plan, tmp_path: Path) -> None:
    grid = killed_probe.predicted()
    found = measured(plan, Journal(plan.journal))
    probed = Probed(predicted=tuple(grid), measured=tuple(found))
    profile = make_profile(plan, probed)
    assert all(choice.source == "measured" for choice in profile.choices)
    assert all(choice.timing is not None for choice in profile.choices)
    assert profile.fingerprint.card == "imaginary" and profile.fingerprint.step is not None
    words = write_outputs(plan, probed, profile, tmp_path)
    assert "in 0 trial(s)" in words[0]
    for name in ("speed.png", "agreement.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "findings.json").read_text()) == []
