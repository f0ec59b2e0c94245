"""What tables and lines say of times: their spread, and who waits for whom."""

from dataclasses import replace

import pytest

from bench.probe.grid_tables import choice_line, stage_rows
from bench.probe.make_profile import Probed, make_profile
from bench.trials.trial import Trial
from distill.spec.file_values import BREAKDOWN
from distill.spec.profile import Choice, Profile, read_profile, write_profile
from tests.bench.probe import killed_probe
from tests.bench.probe.test_measure_grid import probe_of


@pytest.fixture
def wide(make_trial) -> Trial:
    """Takes less memory, and its times are wide."""
    trial = make_trial(1000, 32, measured=True, seconds=(1.0, 1.4, 1.9), precision="bf16")
    read = replace(trial.reading, card_seconds=0.7, launches=1532)
    return replace(trial, reading=read, turn=2)


@pytest.fixture
def faster(make_trial) -> Trial:
    """By its median alone."""
    return make_trial(2000, 32, measured=True, seconds=(1.2, 1.25, 1.3))


def choice_of(trial: Trial) -> Choice:
    return Choice(
        stage="teacher",
        student="vit",
        teacher=None,
        candidate=trial.candidate,
        peak_reserved_bytes=trial.reading.safe_bytes,
        breakdown=dict.fromkeys(BREAKDOWN, 0),
        images_per_second=trial.images_per_second,
        source="measured",
        timing=trial.timing,
    )


def test_a_row_tells_the_spread_and_who_waits(wide, faster, make_trial, budget) -> None:
    apart = make_trial(3000, 64, measured=True, seconds=(2.0, 2.0, 2.0))
    bound = make_trial(500, 16)
    rows = stage_rows([wide, faster, apart, bound], budget, 128, choice_of(wide))
    told = {
        row["peak MiB"]: [row[name] for name in ("quartiles", "bound by", "launches", "verdict")]
        for row in rows
    }
    assert told == {
        "1,000": ["77.6–107", "host", "1,532", "chosen, unsteady"],
        "2,000": ["100–104", "–", "–", "safe, faster only within the spread"],
        "3,000": ["64.0–64.0", "–", "–", "safe"],
        "500": ["–", "–", "–", "safe"],
    }


def test_the_line_of_a_choice_tells_what_its_speed_rests_on(wide, make_trial, budget) -> None:
    assert choice_line(choice_of(wide), budget).endswith(
        "91.4 images/s (quartiles 77.6–107, 3 updates in 3 process(es); unsteady; "
        "host-bound, the card's own time is 50.0 % of an update's; 1,532 launches an update)"
    )
    busy = replace(wide, reading=replace(wide.reading, card_seconds=1.39, launches=None))
    assert "card-bound, the card's own time is 99.3 %" in choice_line(choice_of(busy), budget)
    untold = choice_of(make_trial(1000, measured=True))
    assert "bound" not in choice_line(untold, budget) and "unsteady" not in choice_line(
        untold, budget
    )


def test_a_profile_keeps_what_a_measured_speed_rests_on(wide, tmp_path) -> None:
    plan = probe_of(tmp_path / "trials.jsonl")
    grid = killed_probe.predicted()
    only = {t.candidate.stage: t for t in grid if t.candidate.micro_batch == 32}
    measured = [replace(trial, reading=wide.reading, turn=1) for trial in only.values()]
    profile = make_profile(plan, Probed(predicted=tuple(grid), measured=tuple(measured)))
    write_profile(tmp_path / "profile.json", profile)
    again = read_profile(tmp_path / "profile.json")
    assert again == profile
    assert [choice.timing for choice in again.choices] == [measured[0].timing] * 3
    assert again.choices[0].timing.bound_by == "host"


def test_a_profile_that_nothing_timed_is_written_as_before(tmp_path) -> None:
    plan = replace(probe_of(tmp_path / "trials.jsonl"), device="predict")
    grid = killed_probe.predicted()
    profile = make_profile(plan, Probed(predicted=tuple(grid), measured=()))
    document = profile.model_dump(mode="json")
    assert all("timing" not in choice for choice in document["choices"])
    assert Profile.model_validate(document) == profile
