"""What `distill run` is asked for on its command line, done by a real run."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from distill.cli.main import main
from distill.cli.run_command import run as run_command
from distill.spec.candidate import ModelSpec
from distill.step.models import build
from tests.conftest import RECIPE, ROOT
from tests.forked import forked

TRAINING_IMAGES = 1258
"""Of the 1,797 digits a fifth is for the test, an eighth of the rest for validation."""

DEMO = ROOT / "profiles" / "demo-6gb.json"


def distill(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return forked("distill", *arguments, "--device", "cpu")


def trained(recipe: Path, out: Path, *more: str | Path) -> Path:
    """The folder of the run of a teacher."""
    done = distill("run", "--recipe", recipe, "--stage", "teacher", "--out", out, *more)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*/digits"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher trained for four epochs, in steps, with both logs."""
    out = tmp_path_factory.mktemp("results")
    steps = (
        "--seed",
        str(2**63 - 1),
        "--scheduler",
        "step",
        "--step-epochs",
        "2",
        "--epochs",
        "4",
        "--lr",
        "0.002",
    )
    return trained(recipe, out, *steps, "--json-log", out / "log.jsonl", "--memory-log")


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "teacher/logs/vit_tiny_teacher_log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_step_schedule_falls_by_ten_every_so_many_epochs(run: Path) -> None:
    assert [float(row["learning_rate"]) for row in log_of(run)] == pytest.approx(
        [0.002, 0.002, 0.0002, 0.0002]
    )


def test_the_json_log_tells_the_stage_from_its_beginning_to_its_end(run: Path) -> None:
    lines = (run.parents[1] / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["stage_begins", *["epoch"] * 4, "stage_done"]
    assert {event["stage"] for event in events} == {"teacher"}
    accuracies = [float(row["val_accuracy"]) for row in log_of(run)]
    assert [event["val_accuracy"] for event in events[1:-1]] == accuracies
    assert events[-1] == {"event": "stage_done"} | json.loads(
        (run / "teacher/result.json").read_text()
    )


def test_the_memory_log_has_a_line_an_update_and_on_a_cpu_no_number(run: Path) -> None:
    with (run / "teacher/logs/vit_tiny_teacher_memory.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    updates = -(-TRAINING_IMAGES // 64)
    assert [(row["epoch"], row["update"]) for row in rows] == [
        (str(epoch), str(update)) for epoch in range(1, 5) for update in range(1, updates + 1)
    ]
    assert {row["reserved_mb"] for row in rows} == {""}


# -- weights from a file


@pytest.mark.slow
def test_a_stage_starts_from_the_weights_of_a_file(recipe: Path, run: Path, tmp_path: Path) -> None:
    file = next((run / "teacher/checkpoints").glob("*.safetensors"))
    started = trained(
        recipe, tmp_path, "--weights", f"teacher={file}", "--epochs", "1", "--lr", "1e-12"
    )
    best = max(log_of(run), key=lambda row: (float(row["val_accuracy"]), -int(row["epoch"])))
    (first,) = log_of(started)
    assert float(first["val_loss"]) == pytest.approx(float(best["val_loss"]), rel=1e-6)
    assert first["val_accuracy"] == best["val_accuracy"]
    assert started.parent.name == "imagenet_pretrained"


def test_of_weights_for_other_classes_all_but_the_head_is_taken(run: Path, tmp_path: Path) -> None:
    state = load_file(next((run / "teacher/checkpoints").glob("*.safetensors")))
    head = {name: value[:7].clone() for name, value in state.items() if name.startswith("head.")}
    save_file(state | head, tmp_path / "seven.safetensors")
    shape = {"image_size": 8, "channels": 1, "patch_size": 2, "depth": 2, "width": 32, "heads": 2}
    spec = ModelSpec(name="vit_tiny_patch16_224", classes=10, **shape)
    model = build(spec, weights=tmp_path / "seven.safetensors").state_dict()
    assert model["head.weight"].shape == (10, 32)
    assert all(torch.equal(model[name], state[name]) for name in state.keys() - head.keys())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.safetensors", None, "there is no file"),
        ("torn.safetensors", b"\x10\0\0\0\0\0\0\0{}", "is no whole safetensors file"),
        ("pickle.pth", b"x", "is not a .safetensors file, the only kind that is read"),
        ("other.safetensors", "other", "does not hold weights of vit_tiny_patch16_224"),
    ],
)
def test_a_file_that_holds_no_weights_is_one_sentence(
    recipe: Path, tmp_path: Path, name: str, content: bytes | str | None, sentence: str
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        save_file({"something": torch.ones(3)}, file)
    done = distill(
        *("run", "--recipe", recipe, "--stage", "teacher", "--weights", file),
        *("--out", tmp_path / "results"),
    )
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_weights_for_all_stages_at_once_are_refused(recipe: Path, run: Path) -> None:
    file = next((run / "teacher/checkpoints").glob("*.safetensors"))
    done = distill("run", "--recipe", recipe, "--weights", file)
    assert done.returncode == 2 and f"Write STAGE={file}" in done.stderr


# -- over the profile


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "times"), [("16", 4), ("24", 3)])
def test_a_batch_over_the_profiles_is_predicted_and_that_is_the_table(
    tmp_path: Path, batch: str, times: int
) -> None:
    """What is left of an update of 64 images is not predicted, which is said."""
    done = distill(
        *("run", "--profile", DEMO, "--stage", "teacher", "--epochs", "1", "--out", tmp_path),
        *("--batch-size", batch),
    )
    assert done.returncode == 0, done.stderr
    assert f"not what the profile chose: {batch} × {times} images" in done.stderr
    assert ("an update's last 16 images are not predicted" in done.stderr) == (batch == "24")
    run = tmp_path / "from_scratch" / "digits"
    config = json.loads((run / "teacher/logs/vit_tiny_teacher_config.json").read_text())
    choice = config["choice"]
    chosen = json.loads(DEMO.read_text())["choices"][0]
    assert choice["candidate"]["micro_batch"] == int(batch) != chosen["candidate"]["micro_batch"]
    assert sum(choice["breakdown"].values()) == choice["peak_reserved_bytes"]
    with (run / "budget.csv").open() as stream:
        told = {row["owner"]: int(row["teacher_bytes"]) for row in csv.DictReader(stream)}
    assert told == choice["breakdown"] != chosen["breakdown"]


@pytest.mark.slow
def test_what_does_not_fit_the_profile_is_refused_with_what_would_help(tmp_path: Path) -> None:
    done = distill(
        *("run", "--profile", ROOT / "profiles" / "rtx4050.json", "--stage", "teacher"),
        *("--batch-size", "128", "--precision", "fp32", "--checkpointing", "0"),
        *("--out", tmp_path),
    )
    assert done.returncode == 2, done.stderr
    assert "Stage teacher: 128 × 1 images, fp32, checkpointing 0, adamw needs" in done.stderr
    assert "What would help, predicted:" in done.stderr and "saves" in done.stderr
    assert not list(tmp_path.rglob("*.pth"))


# -- the help


def test_the_help_shows_every_option_in_its_group() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    groups = (
        "What to train",
        "Where",
        "Data, models and first weights",
        "Training, over the recipe",
        "Distillation, over the recipe",
        "Memory, over the profile",
        "Watching",
    )
    places = [text.index(f"{group}:") for group in groups]
    assert places == sorted(places)
    shown = text.split()
    for parameter in run_command.params:
        assert set(parameter.opts) & set(shown), parameter.name


@pytest.mark.slow
def test_a_finished_stage_is_not_passed_off_as_one_from_other_weights(
    recipe: Path, run: Path, tmp_path: Path
) -> None:
    file = next((run / "teacher/checkpoints").glob("*.safetensors"))
    command = ("run", "--recipe", recipe, "--stage", "teacher", "--epochs", "1", "--out", tmp_path)
    assert distill(*command, "--no-pretrained").returncode == 0
    (there,) = tmp_path.glob("*/digits")
    assert there.parent.name == "from_scratch"
    done = distill(*command, "--no-pretrained", "--weights", file)
    assert done.returncode == 2 and "did not begin with" in done.stderr


def test_weights_of_a_later_stage_are_read_before_the_first_is_trained(
    recipe: Path, tmp_path: Path
) -> None:
    save_file({"something": torch.ones(3)}, tmp_path / "other.safetensors")
    done = distill(
        *("run", "--recipe", recipe, "--no-pretrained", "--out", tmp_path / "results"),
        *("--weights", f"student={tmp_path / 'other.safetensors'}"),
    )
    assert done.returncode == 2 and "does not hold weights of" in done.stderr
    assert not list(tmp_path.rglob("*.pth"))


# -- which epoch is best, and when to stop


@pytest.mark.slow
def test_patience_and_criterion_end_a_stage_early_and_are_part_of_the_run(
    recipe: Path, tmp_path: Path
) -> None:
    words = ("--lr", "5", "--epochs", "30", "--criterion", "f1", "--balance", "sampling")
    run = trained(recipe, tmp_path, *words, "--patience", "2")
    rows = log_of(run)
    assert len(rows) < 30
    best = max(rows, key=lambda row: (float(row["val_f1_score"]), -float(row["val_loss"])))
    assert len(rows) == int(best["epoch"]) + 2
    result = json.loads((run / "teacher" / "result.json").read_text())
    assert (result["best_epoch"], result["epochs"]) == (int(best["epoch"]), len(rows))
    other = distill("run", "--recipe", recipe, "--stage", "teacher", "--out", tmp_path, *words)
    assert other.returncode == 2
    assert "training.patience 2 there, None here" in other.stderr


@pytest.mark.slow
def test_weights_of_classes_train_too(recipe: Path, tmp_path: Path) -> None:
    run = trained(recipe, tmp_path, "--epochs", "1", "--balance", "weights")
    config = json.loads((run / "teacher" / "logs" / "vit_tiny_teacher_config.json").read_text())
    assert config["candidate"]["class_weights"] is True


def test_several_labels_an_image_are_not_balanced(recipe: Path) -> None:
    refused = distill(
        *("run", "--recipe", recipe, "--dataset", "chestmnist", "--balance", "weights"),
    )
    assert refused.returncode == 2
    assert "several labels, which --balance weights does not know" in refused.stderr
