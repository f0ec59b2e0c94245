"""Trials on disk: each line stands alone, and what is there is not done again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.errors import UserError
from distill.base.files import append_line
from distill.spec.step_times import quartiles_of
from tests.bench.conftest import MIB


def test_a_trial_reads_back_as_it_was_written(make_trial, tmp_path: Path) -> None:
    trials = [make_trial(1000, 16), make_trial(2000, 32, measured=True, outcome="thrash")]
    Journal(tmp_path / "trials.jsonl").add(trials)
    assert Journal(tmp_path / "trials.jsonl").trials == trials


def test_done_means_the_same_candidate_under_the_same_conditions(make_trial, tmp_path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    trial = make_trial(1000)
    journal.add([trial])
    assert journal.done(trial.candidate, trial.conditions) == trial
    assert journal.done(trial.candidate.with_batch(8, 128), trial.conditions) is None
    for other in ({"code": "other"}, {"torch": "9"}, {"card": "h200"}, {"cap_bytes": 1}):
        assert journal.done(trial.candidate, replace(trial.conditions, **other)) is None


def test_a_cap_that_decides_nothing_leaves_a_measured_trial_done(make_trial, tmp_path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    fits, ends = make_trial(1000, 16, measured=True), make_trial(4000, 64, measured=True)
    ends = replace(ends, outcome="oom", reading=None)
    under = replace(fits.conditions, cap_bytes=2000 * MIB)
    journal.add(replace(trial, conditions=under) for trial in (fits, ends))

    def done(trial: Trial, cap_mib: int) -> bool:
        return journal.done(trial.candidate, replace(under, cap_bytes=cap_mib * MIB)) is not None

    assert done(fits, 1990) and done(fits, 2010) and not done(fits, 999)
    assert done(ends, 1990) and not done(ends, 2010)
    predicted = replace(make_trial(4000, 32), outcome="oom", conditions=under)
    journal.add([predicted])
    assert done(predicted, 2000) and not done(predicted, 1990)
    other = replace(under, cap_bytes=1990 * MIB, torch="9")
    assert journal.done(fits.candidate, other) is None


def test_each_turn_of_a_candidate_is_done_by_itself(make_trial, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    first = make_trial(1000, 16, measured=True)
    second = replace(make_trial(1000, 16, 90.0, measured=True), turn=1)
    journal.add([first, second])
    for there in (journal, Journal(journal.path)):
        assert there.done(first.candidate, first.conditions) == first
        assert there.done(first.candidate, first.conditions, 1) == second
        assert there.done(first.candidate, first.conditions, 2) is None


def test_a_reading_keeps_the_quartiles_of_its_times_beside_them(make_trial, tmp_path) -> None:
    trial = make_trial(1000, 16, measured=True, seconds=(1.0, 2.0, 3.0, 4.0, 9.0))
    Journal(tmp_path / "trials.jsonl").add([trial])
    line = json.loads((tmp_path / "trials.jsonl").read_text())
    kept = {"lower_seconds": 2.0, "median_seconds": 3.0, "upper_seconds": 4.0}
    assert line["reading"]["quartiles"] == kept
    assert replace(trial.reading, step_seconds=(5.0,)).quartiles == quartiles_of([5.0])
    assert replace(trial.reading, step_seconds=()).quartiles is None


def test_a_torn_last_line_is_left_out_and_counted(make_trial, tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path).add([make_trial(1000), make_trial(2000)])
    path.write_bytes(path.read_bytes()[:-40])
    journal = Journal(path)
    assert len(journal.trials) == 1 and journal.torn == 1


def test_a_journal_of_another_schema_is_refused(tmp_path: Path) -> None:
    append_line(tmp_path / "trials.jsonl", {"schema": 99})
    with pytest.raises(UserError, match="another schema. Move it away"):
        Journal(tmp_path / "trials.jsonl")


def test_measured_speed_comes_from_the_median_step(make_trial) -> None:
    trial = make_trial(1000, 32, measured=True)
    reading = replace(trial.reading, step_seconds=(1.0, 9.0, 2.0))
    assert replace(trial, reading=reading).images_per_second == 64.0


def test_a_peak_is_what_must_be_there_in_the_worst_order_and_under_a_cap(make_trial) -> None:
    reading = make_trial(100).reading
    assert reading.safe_bytes == 100 * 2**20
    assert replace(reading, reserved_max_bytes=1 << 40).safe_bytes == 1 << 40
    assert replace(reading, cap_needed_bytes=1 << 41).safe_bytes == 1 << 41


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.pop("pins"), "pins is missing"),
        (lambda d: d["reading"].update(breakdown=None), "reading.predicted.breakdown = None"),
        (lambda d: d["reading"]["breakdown"].pop("weights"), "weights is missing"),
        (lambda d: d["reading"].update(reserved_bytes=-1), "reserved_bytes = -1 is not possible"),
        (lambda d: d["reading"].update(reserved_bytes="1"), "reserved_bytes = '1' is not possible"),
        (lambda d: d["candidate"].update(micro_batch=0), "candidate.micro_batch = 0"),
        (lambda d: d["candidate"].update(student=None), "candidate.student = None"),
        (lambda d: d.update(reading=None), "it went through without a reading"),
        (lambda d: d.update(outcome="well"), "outcome = 'well' is not possible"),
    ],
)
def test_a_line_that_is_no_trial_is_one_sentence(make_trial, tmp_path, change, sentence) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path).add([make_trial(1000)])
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document) + "\n")
    with pytest.raises(UserError, match=f"no trial.*{sentence}.*Move it away"):
        Journal(path)


def test_what_is_no_document_is_torn(make_trial, tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path).add([make_trial(1000)])
    with path.open("a") as stream:
        stream.write(f"{'[' * 1000}\n{'9' * 5000}\n")
    journal = Journal(path)
    assert len(journal.trials) == 1 and journal.torn == 2
