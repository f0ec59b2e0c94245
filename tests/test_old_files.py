"""Files that an earlier version wrote are read as they were: profiles, a journal, a run.

They were made by version 0.1.0 before its modules were put into folders: `bench probe --vram 6`
and `distill run` of the small recipe in `conftest`. The run's student has its last checkpoint and
no result yet, as after a kill between the two.
"""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.trials.journal import Journal
from distill.spec.profile import read_profile
from tests.conftest import ROOT, Command

OLD = Path(__file__).parent / "old_files"


@pytest.mark.parametrize("name", ["rtx4050", "demo-6gb"])
def test_a_profile_reads_and_writes_back_what_it_held(name: str) -> None:
    path = OLD / f"{name}.json"
    assert read_profile(path).model_dump(mode="json") == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("packed", "outcomes"),
    [
        (OLD / "trials.jsonl.gz", {("ok", "predicted"): 198, ("oom", "predicted"): 18}),
        (
            ROOT / "results/evidence/h200/trials.jsonl.gz",
            {
                ("ok", "predicted"): 169,
                ("oom", "predicted"): 47,
                ("ok", "measured"): 19,
                ("skipped", None): 197,
            },
        ),
    ],
)
def test_a_journal_is_read_to_its_last_line(
    packed: Path, outcomes: dict[tuple[str, str | None], int], tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    journal = Journal(path)
    found = Counter(
        (trial.outcome, None if trial.reading is None else trial.reading.source)
        for trial in journal.trials
    )
    assert not journal.torn
    assert found == outcomes


def test_times_of_a_journal_that_kept_no_quartiles_have_them_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    packed = ROOT / "results/evidence/h200/trials.jsonl.gz"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    timed = [trial.timing for trial in Journal(path).trials if trial.timing is not None]
    spreads = [timing.quartiles.spread for timing in timed]
    assert [(one.updates, one.processes, one.bound_by) for one in timed] == [(12, 1, None)] * 19
    # as docs/prediction.md says, from 1 to 27 %
    assert (round(min(spreads), 2), round(max(spreads), 2)) == (0.01, 0.27)
    assert sum(timing.quartiles.is_unsteady for timing in timed) == 10


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "from_scratch" / "digits"
    shutil.copytree(OLD / "run", folder)
    return folder


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint_and_ends_as_it_did(
    old_run: Path, recipe_file: Path, command: Command
) -> None:
    child = command("distill", "run", "--recipe", str(recipe_file), "--device", "cpu")
    assert child.returncode == 0, child.stderr
    assert "teacher  done before" in child.stderr
    assert "goes on after epoch 2" in child.stderr
    result = json.loads((old_run / "student" / "result.json").read_text())
    before = json.loads((OLD / "student-result.json").read_text())
    same = [key for key in before if key not in ("train_seconds", "device")]
    assert {key: result[key] for key in same} == {key: before[key] for key in same}


def test_the_tests_of_a_run_give_the_scores_that_it_recorded(
    old_run: Path, command: Command
) -> None:
    child = command("distill", "evaluate", str(old_run), "--device", "cpu")
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("yes") == 2
