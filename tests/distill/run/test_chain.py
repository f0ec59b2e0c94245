"""`distill run` as a user starts it: a whole chain, interrupted and resumed, and wrong uses."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from distill.base.files import STALE_SUFFIX
from distill.cli.main import main
from distill.train.run_folder import TIME_PARTS, EpochRow
from tests.conftest import ROOT
from tests.forked import forked

COLUMNS = [
    "epoch",
    *("train_loss", "train_accuracy", "train_precision", "train_recall", "train_f1_score"),
    *("val_loss", "val_accuracy", "val_precision", "val_recall", "val_f1_score"),
    *("learning_rate", "epoch_time_sec", "gpu_memory_mb"),
]


def chain(recipe_file: Path, out: Path, *more: str) -> list[str]:
    where = ("--device", "cpu", "--out", str(out))
    return ["distill", "run", "--recipe", str(recipe_file), *where, *more]


def start(recipe_file: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    """Begin a chain just as a user would, to send it signals."""
    return subprocess.Popen(
        [sys.executable, "-m", *chain(recipe_file, out, *more)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_to_end(recipe_file: Path, out: Path, *more: str) -> str:
    done = forked(*chain(recipe_file, out, *more))
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(path: Path, child: "subprocess.Popen[str]") -> None:
    for _ in range(3600):
        if path.exists():
            return
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def log_of(run: Path, stage: str) -> list[dict[str, str]]:
    with (run / stage / "logs" / f"vit_tiny_{stage}_log.csv").open() as stream:
        return list(csv.DictReader(stream))


def without_times(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.endswith("_time_sec")} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path, str]:
    """A recipe, the run folder of its uninterrupted chain, and what it printed."""
    from tests.conftest import RECIPE

    folder = tmp_path_factory.mktemp("chain")
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE)
    printed = run_to_end(recipe, folder / "results")
    return recipe, folder / "results" / "from_scratch" / "digits", printed


@pytest.mark.slow
def test_a_chain_leaves_three_stages_with_all_their_files(finished) -> None:
    _, run, printed = finished
    for stage in ("teacher", "assistant", "student"):
        rows = log_of(run, stage)
        assert list(rows[0]) == list(EpochRow.__dataclass_fields__)
        assert list(rows[0])[:14] == COLUMNS
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
        assert all(row["gpu_memory_mb"] == "" for row in rows)
        for row in rows:
            parts = [float(row[f"{name}_time_sec"]) for name in TIME_PARTS]
            assert sum(parts) == pytest.approx(float(row["epoch_time_sec"])) and min(parts) > 0
        result = json.loads((run / stage / "result.json").read_text())
        assert result["test_images"] == 359
        best = max(float(row["val_accuracy"]) for row in rows)
        assert result["checkpoint"] == f"best_acc_{100 * best:.2f}.pth"
        files = {path.name for path in (run / stage / "checkpoints").iterdir()}
        weights = result["checkpoint"].replace(".pth", ".safetensors")
        assert files == {"latest.pth", "previous.pth", result["checkpoint"], weights}
        assert stage in printed
        confusion = (run / stage / "confusion.csv").read_text().splitlines()
        assert confusion[0] == "true class," + ",".join("0123456789")
        counted = [int(cell) for line in confusion[1:] for cell in line.split(",")[1:]]
        assert sum(counted) == 359
        assert "| 9 " in (run / stage / "classes.md").read_text().replace("|       9 ", "| 9 ")
        assert (run / stage / "confusion.png").stat().st_size > 10_000
        assert result["saving_seconds"] == pytest.approx(
            sum(float(row["saving_time_sec"]) for row in rows)
        )
    assert re.search(r"Where the time went\n\nstage +an epoch +updates +input +valid", printed)
    assert (run / "curves.png").stat().st_size > 10_000
    assert (run / "accuracy.md").read_text().count("|\n") == 5


def test_a_second_run_repeats_nothing(finished) -> None:
    recipe, run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.pth")}
    done = forked(*chain(recipe, run.parents[1]))
    assert done.returncode == 0 and done.stderr.count("done before") == 3
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.pth")} == before


def test_another_recipe_does_not_take_over_its_folder(finished) -> None:
    recipe, run, _ = finished
    done = forked(*chain(recipe, run.parents[1], "--epochs", "3"))
    assert done.returncode == 2
    assert "with other values (training.epochs 2 there, 3 here)." in done.stderr
    assert "Choose another folder with --out, or start over with --fresh" in done.stderr


@pytest.mark.slow
def test_killed_in_its_second_stage_it_keeps_the_first_and_ends_the_same(
    finished, tmp_path: Path
) -> None:
    recipe, whole, _ = finished
    run = tmp_path / "results" / "from_scratch" / "digits"
    child = start(recipe, tmp_path / "results")
    wait_for(run / "assistant" / "checkpoints" / "latest.pth", child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    teacher = (run / "teacher" / "result.json").read_bytes()
    run_to_end(recipe, tmp_path / "results")
    assert (run / "teacher" / "result.json").read_bytes() == teacher
    for stage in ("teacher", "assistant", "student"):
        assert without_times(log_of(run, stage)) == without_times(log_of(whole, stage))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, "0"), (signal.SIGTERM, 143, "2")]
)
def test_asked_to_stop_it_saves_between_two_updates_and_goes_on(
    finished, tmp_path: Path, number: signal.Signals, code: int, workers: str
) -> None:
    """With readers ahead too, whose work for later updates is thrown away."""
    recipe, whole, _ = finished
    run = tmp_path / "results" / "from_scratch" / "digits"
    child = start(recipe, tmp_path / "results", "--num-workers", workers)
    wait_for(run / "teacher" / "checkpoints" / "latest.pth", child)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == code
    assert f"Stopped by {number.name}" in stderr and "Traceback" not in stderr
    run_to_end(recipe, tmp_path / "results", "--num-workers", workers)
    for stage in ("teacher", "assistant", "student"):
        assert without_times(log_of(run, stage)) == without_times(log_of(whole, stage))


def test_a_student_alone_needs_its_teacher_first(recipe_file: Path, tmp_path: Path) -> None:
    done = forked(*chain(recipe_file, tmp_path / "results", "--stage", "student"))
    assert done.returncode == 2
    assert "taught by assistant, which is not finished" in done.stderr


# -- what is done with a finished run


def checkpoints_of(run: Path, stage: str) -> set[str]:
    return {path.name for path in (run / stage / "checkpoints").iterdir()}


def test_its_tests_repeated_give_its_own_numbers(finished) -> None:
    _, run, _ = finished
    done = forked("distill", "evaluate", str(run), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("teacher", "yes"), ("assistant", "yes"), ("student", "yes"),
    ]  # fmt: skip


def test_its_tables_come_from_its_files(finished) -> None:
    _, run, _ = finished
    result = CliRunner().invoke(main, ["tables", str(run)])
    assert result.exit_code == 0 and "Not finished" not in result.output, result.output
    for stage in ("teacher", "assistant", "student"):
        assert result.output.count(stage) >= 2


def test_its_student_leaves_as_a_folder_that_timm_reads(finished, tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import load_file

    _, run, _ = finished
    result = CliRunner().invoke(main, ["export", str(run), "--to", str(tmp_path / "student")])
    assert result.exit_code == 0, result.output
    model = timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True)
    (best,) = (run / "student" / "checkpoints").glob("best_acc_*.safetensors")
    weights = load_file(best)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())


def test_cleaning_keeps_the_best_and_the_latest(finished, tmp_path: Path) -> None:
    _, run, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "student" / "checkpoints" / f"latest.pth{STALE_SUFFIX}").write_bytes(b"torn")
    before = checkpoints_of(copy, "student")
    listed = CliRunner().invoke(main, ["clean", str(copy), "--dry-run"])
    assert "would remove" in listed.output and checkpoints_of(copy, "student") == before
    assert CliRunner().invoke(main, ["clean", str(copy)]).exit_code == 0
    kept = checkpoints_of(run, "student") - {"previous.pth"}
    assert checkpoints_of(copy, "student") == kept
    assert "latest.pth" in kept and len(kept) == 3


# -- wrong uses, each one sentence and nothing written


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--recipe", "nothing"], 2, "Unknown recipe 'nothing'"),
        (["--recipe", "demo", "--dataset", "letters"], 2, "Unknown data set 'letters'"),
        (["--recipe", "demo", "--precision", "fp8"], 2, "'fp8' is not one of"),
        (["--recipe", "demo", "--batch-size", "0"], 2, "0 is not in the range 1<=x"),
        (["--recipe", "demo", "--batch-size", "-1"], 2, "-1 is not in the range 1<=x"),
        (["--recipe", "demo", "--batch-size", "65"], 2, "more than the 64 images per update"),
        (["--recipe", "demo", "--epochs", "0"], 2, "0 is not in the range 1<=x"),
        (["--recipe", "demo", "--lr", "nan"], 2, "nan is not a finite number"),
        (["--recipe", "demo", "--lr", "0"], 2, "0 must be above 0"),
        (["--recipe", "demo", "--device", "cuda"], 3, "No CUDA device here"),
        (["--profile", "none.json"], 2, "Cannot read profile none.json"),
        (["--recipe", "demo", "--precision", "fp16", "--mixed-precision"], 2, "not both"),
    ],
)
def test_a_wrong_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, code, sentence
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "results"
    result = CliRunner().invoke(main, ["run", *arguments, "--out", str(out)])
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not list(out.rglob("*"))


def test_a_profile_for_another_recipe_is_refused(tmp_path: Path, rtx4050_path: Path) -> None:
    arguments = ["run", "--profile", str(rtx4050_path), "--recipe", "demo", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "is for another student in stage teacher" in result.output
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["run", "--recipe", "demo", "--out", str(tmp_path / "file" / "results")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Cannot write to" in result.output
