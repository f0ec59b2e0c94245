"""Processes that train together learn what one learns, write once, speak once and end together."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import RECIPE, command_in
from tests.forked import ROOT, forked_ranks

pytestmark = pytest.mark.slow

RUN = ("run", "--recipe", "small.toml", "--device", "cpu", "--no-attention", "--stage", "teacher")
PREVIOUS = Path("from_scratch", "digits", "teacher", "checkpoints", "previous.pth")
PARTS = ("train", "val", "test")
ROUNDING = 2e-4
"""Sums of the same numbers in another order, through forty updates of AdamW."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recipe, and in `alone` the run of one process with two micro-batches an update."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "small.toml").write_text(RECIPE)
    alone = command_in(folder)("distill", *RUN, "--batch-size", "32", "--out", "alone")
    assert alone.returncode == 0, alone.stderr
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The last weights of the teacher."""
    path = run / "from_scratch" / "digits" / "teacher" / "checkpoints" / "latest.pth"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["student"]
    return found


def log(run: Path) -> list[dict[str, str]]:
    path = next((run / "from_scratch" / "digits" / "teacher" / "logs").glob("*_log.csv"))
    return list(csv.DictReader(path.read_text().splitlines()))


def furthest(run: Path, other: Path) -> float:
    """The largest difference between any two weights."""
    here, there = weights(run), weights(other)
    return max(float((here[name] - there[name]).abs().max()) for name in here)


def assert_same_scores(run: Path, other: Path) -> None:
    for row, there in zip(log(run), log(other), strict=True):
        for name in row:
            if row[name] and "time" not in name:
                assert float(row[name]) == pytest.approx(float(there[name]), abs=1e-2), name


@pytest.mark.parametrize(
    ("ranks", "batch"),
    [
        pytest.param(2, "32", id="two, one micro-batch each"),
        pytest.param(2, "8", id="two, four micro-batches each"),
        pytest.param(3, "64", id="three, which does not divide an update"),
    ],
)
def test_processes_learn_what_one_learns(folder: Path, ranks: int, batch: str) -> None:
    out = f"{ranks} of {batch}"
    ended = forked_ranks(ranks, *RUN, "--batch-size", batch, "--out", out, cwd=folder)
    assert [one.returncode for one in ended] == [0] * ranks, ended[0].stderr
    assert all(one.stdout + one.stderr == "" for one in ended[1:])
    assert furthest(folder / out, folder / "alone") < ROUNDING
    assert_same_scores(folder / out, folder / "alone")
    listed = {str(path.relative_to(folder / out)) for path in (folder / out).rglob("*")}
    assert listed == {
        str(path.relative_to(folder / "alone")) for path in (folder / "alone").rglob("*")
    }


def test_an_interrupted_run_goes_on_in_another_number_of_processes(folder: Path) -> None:
    words = (*RUN, "--batch-size", "32", "--out", "resumed")
    assert command_in(folder)("distill", *words).returncode == 0
    stage = folder / "resumed" / "from_scratch" / "digits" / "teacher"
    (stage / "result.json").unlink()
    (stage / "checkpoints" / "previous.pth").replace(stage / "checkpoints" / "latest.pth")
    ended = forked_ranks(2, *words, cwd=folder)
    assert [one.returncode for one in ended] == [0, 0], ended[0].stderr
    assert "goes on after epoch 1, update 0" in ended[0].stderr
    assert furthest(folder / "resumed", folder / "alone") < ROUNDING


def test_a_refusal_is_told_once(folder: Path) -> None:
    ended = forked_ranks(2, *RUN, "--out", "alone", "--seed", "5", cwd=folder)
    assert ended[0].returncode == 2 and ended[1].returncode
    told = [line for one in ended for line in one.stderr.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1, told
    assert "holds a run with other values" in told[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--epochs", "5"), "asked for other work than process 0 (recipe.training.epochs 2 there"),
        (("--batch-size", "16"), "asked for other work than process 0 (batch_size None there, 16"),
        (("--out", "elsewhere"), "find different things in"),
        (("--data-dir", "other"), "finds other images than process 0 (digest "),
    ],
)
def test_processes_with_different_work_are_refused_before_the_first_update(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    for place, first in (("images", 0), ("other", 1)):
        (folder / place).mkdir(exist_ok=True)
        labels = np.arange(first, first + 60)[:, None] % 2
        part = {"images": np.zeros((60, 28, 28), np.uint8), "labels": labels.astype(np.uint8)}
        parts = {f"{name}_{key}": value for name in PARTS for key, value in part.items()}
        np.savez(folder / place / "breastmnist.npz", **parts)
    data = ("--dataset", "breastmnist", "--data-dir", "images", "--out", words[0])
    ended = forked_ranks(2, *RUN, *data, cwd=folder, one_more=(1, words))
    assert [one.returncode for one in ended] == [2, 2], ended[0].stderr
    said = "".join(one.stderr for one in ended)
    assert said.count("Error: ") == 1 and told in said, said
    assert "images an update" not in said  # what a stage says as it begins


def test_an_option_that_is_refused_is_told_once(folder: Path) -> None:
    ended = forked_ranks(2, *RUN, "--out", "no", "--recipe", "nothing.toml", cwd=folder)
    assert [one.returncode for one in ended] == [2, 2]
    assert ended[0].stderr.count("Error") == 1 and ended[1].stderr == ""


def test_an_environment_that_makes_no_sense_is_refused(folder: Path) -> None:
    started = dict.fromkeys(("MASTER_ADDR", "MASTER_PORT", "RANK"), "1")
    ended = command_in(folder)("distill", *RUN, LOCAL_RANK="0", WORLD_SIZE="1", **started)
    assert ended.returncode == 2
    assert ended.stderr == (
        "Error: The environment says RANK '1', LOCAL_RANK '0', WORLD_SIZE '1'. Unset them, or "
        "start with torchrun.\n"
    )


def test_cached_logits_are_made_by_one_and_read_by_all(folder: Path) -> None:
    words = ("--teacher", "cached", "--epochs", "1", "--stage", "all", "--teacher-views", "1")
    runs = []
    for out, ranks in (("cached by one", 1), ("cached by two", 2)):
        ended = forked_ranks(ranks, *RUN, *words, "--out", out, cwd=folder)
        assert {one.returncode for one in ended} == {0}, ended[0].stderr
        logits = folder / out / "from_scratch" / "digits" / "student" / "teacher_logits"
        runs.append((ended[0].stderr.count("caches its teacher's logits"), logits.exists()))
    assert runs == [(2, True)] * 2


def test_a_signal_to_one_of_them_has_all_saved_once(folder: Path) -> None:
    words = (*RUN, "--epochs", "40", "--out", "stopped")
    saved = folder / "stopped" / PREVIOUS
    ended = forked_ranks(2, *words, cwd=folder, signalled=(1, signal.SIGTERM, saved))
    assert [one.returncode for one in ended] == [143, 143]
    said = "".join(one.stderr for one in ended)
    assert said.count("Error: ") == 1
    assert said.count("Error: Stopped by SIGTERM. teacher is saved at epoch") == 1, said


def test_a_signal_to_one_that_waits_for_cached_logits_ends_all(folder: Path) -> None:
    training = '{ epochs = 1000, teacher = "cached", teacher_views = 1000 }'
    taught = 'taught_by = "teacher"'
    recipe = RECIPE.replace(taught, f"{taught}\ntraining = {training}")
    (folder / "long.toml").write_text(recipe)
    words = ("run", "--recipe", "long.toml", "--device", "cpu", "--no-attention", "--out", "long")
    made = folder / "long" / "from_scratch" / "digits" / "assistant" / "teacher_logits"
    begun = time.monotonic()
    ended = forked_ranks(2, *words, cwd=folder, signalled=(1, signal.SIGTERM, made))
    said = "".join(one.stderr for one in ended)
    assert [one.returncode for one in ended] == [143, 143], said
    assert said.count("Error: Stopped by SIGTERM.") == 1, said
    assert time.monotonic() - begun < 60, "the views took minutes"


def test_a_killed_process_is_started_again_and_the_result_is_the_same(folder: Path) -> None:
    epochs = ("--epochs", "8", "--batch-size", "32")
    whole = forked_ranks(2, *RUN, *epochs, "--out", "whole", cwd=folder)
    assert whole[0].returncode == 0
    command = torchrun(folder, "killed", *epochs, "--fresh")
    os.kill(worker(command, rank=1), signal.SIGKILL)
    _, said = command.communicate(timeout=300)
    assert command.returncode == 0, said
    # whichever is told first: that the other has ended, or torchrun's own signal
    ended = ("Error: Another process of this run has ended.", "Error: Stopped by SIGTERM.")
    assert sum(map(said.count, ended)) == 1, said
    assert "goes on after epoch" in said
    assert furthest(folder / "killed", folder / "whole") == 0


def torchrun(folder: Path, out: str, *arguments: str) -> "subprocess.Popen[str]":
    """Two processes as a user starts them, once their first epochs are saved."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    program = ("--max-restarts", "1", "-m", "distill", *RUN, "--out", out)
    command = subprocess.Popen(
        [sys.executable, *launcher, *program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 300
    while not (folder / out / PREVIOUS).exists():
        assert time.monotonic() < end and command.poll() is None
        time.sleep(0.01)
    return command


def worker(command: "subprocess.Popen[str]", *, rank: int) -> int:
    """The process with that rank."""
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    mark = f"RANK={rank}".encode()
    environments = {one: Path(f"/proc/{one}/environ").read_bytes() for one in children}
    found = [one for one, words in environments.items() if mark in words.split(b"\0")]
    return int(found[0])
