"""A stage that is taught by a trained model of the user's own, in real runs."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.base.errors import UserError
from distill.data.dataset import Split
from distill.run.teacher import check_class_names, load_own_weights, told_scores
from distill.spec.candidate import Candidate, ModelSpec
from distill.spec.own_teacher import TeacherFile
from distill.step.assemble import assemble
from distill.step.models import build
from distill.train.metrics import Scores
from tests.conftest import RECIPE, ROOT
from tests.forked import forked

OLD = ROOT / "tests" / "old_files" / "run" / "teacher"
BEST = OLD / "checkpoints" / "best_acc_10.06.safetensors"
SPEC = ModelSpec(
    name="vit_tiny_patch16_224",
    **{"classes": 10, "image_size": 8, "channels": 1},
    **{"patch_size": 2, "depth": 2, "width": 32, "heads": 2},
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


def student(recipe: Path, out: Path, teacher: Path) -> "subprocess.CompletedProcess[str]":
    """The student alone, taught by that teacher."""
    return forked(
        *("distill", "run", "--recipe", recipe, "--stage", "student", "--epochs", "1"),
        *("--out", out, "--device", "cpu", "--teacher-weights", teacher),
    )


@pytest.mark.slow
def test_a_student_alone_is_taught_and_a_changed_teacher_is_another_run(
    recipe: Path, tmp_path: Path
) -> None:
    stage = shutil.copytree(OLD, tmp_path / "mine")
    done = student(recipe, tmp_path / "out", stage)
    assert done.returncode == 0, done.stderr
    assert "10.1 % of 179 validation images right, no better than one that looks" in done.stderr
    run = tmp_path / "out" / "from_scratch" / "digits"
    config = json.loads(next(run.glob("student/logs/*_config.json")).read_text())
    assert config["candidate"]["teacher"]["width"] == 32
    assert not (run / "teacher").exists() and not (run / "assistant").exists()
    state = load_file(stage / "checkpoints" / BEST.name)
    save_file({**state, "head.bias": state["head.bias"] + 1}, stage / "checkpoints" / BEST.name)
    again = student(recipe, tmp_path / "out", stage)
    assert again.returncode == 2
    assert "held another teacher then" in again.stderr


def test_what_does_not_fit_is_refused_before_a_folder_is_made(recipe: Path, tmp_path: Path) -> None:
    state = load_file(BEST)
    del state["norm.weight"]
    save_file(state, tmp_path / "part.safetensors")
    shutil.copy(OLD / "logs" / "vit_tiny_teacher_config.json", tmp_path)
    done = forked(
        *("distill", "run", "--recipe", recipe, "--stage", "student", "--device", "cpu"),
        *("--out", tmp_path / "out", "--teacher-weights", tmp_path / "part.safetensors"),
        *("--teacher-model", "vit_tiny_patch16_224"),
    )
    assert done.returncode == 2
    assert "does not fit vit_tiny_patch16_224: it lacks" in done.stderr
    assert not list((tmp_path / "out").rglob("run.json"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("norm.bias"), "lacks 1 of"),
        (lambda state: state.update(more=torch.zeros(1)), "1 tensors that the model does not have"),
        (lambda state: state.update(pos_embed=torch.zeros(1, 5, 32)), "images of another size"),
        (lambda state: state["head.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_weights_that_are_not_the_models_are_told_apart(tmp_path: Path, change, words: str) -> None:
    state = load_file(BEST)
    change(state)
    save_file(state, tmp_path / "changed.safetensors")
    with pytest.raises(UserError, match=words):
        load_own_weights(tmp_path / "changed.safetensors", build(SPEC), SPEC.title)


def test_classes_of_other_names_or_in_another_order_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = TeacherFile(weights=Path("t"), spec=SPEC, classes=("cat", "dog"))
    check_class_names(own, ("cat", "dog"))
    with pytest.raises(UserError, match="in another order: its class 0 is 'cat', the data's is 'd"):
        check_class_names(own, ("dog", "cat"))
    with pytest.raises(UserError, match="other classes: its class 1 is 'dog', the data's is 'fox'"):
        check_class_names(own, ("cat", "fox"))
    check_class_names(TeacherFile(weights=Path("t"), spec=SPEC, classes=None), ("cat", "dog"))
    assert "taken to be in the data's order: 0 = cat, 1 = dog" in capsys.readouterr().err


def test_a_teacher_is_no_good_that_does_no_better_than_the_largest_class() -> None:
    asked = Split(np.zeros((4, 1, 1, 1), np.uint8), np.array([0, 0, 0, 1]))
    good, bad = (
        Scores(loss=1, accuracy=share, precision=0, recall=0, f1_score=0) for share in (1.0, 0.75)
    )
    assert told_scores(good, asked) == "100.0 % of 4 validation images right"
    assert "no better than one that looks at no image" in told_scores(bad, asked)


def test_its_own_normalisation_is_what_it_sees_and_part_of_the_step(
    small_candidate: Candidate,
) -> None:
    teacher = ModelSpec(**(SPEC.__dict__ | {"mean": (0.1,), "std": (0.25,)}))
    device = torch.device("cpu")
    step = assemble(small_candidate, build(small_candidate.student), build(teacher), device)
    seen = (torch.full((1, 1, 8, 8), 0.6) - 0.5) / 0.5  # as the student's own has it
    assert torch.allclose(step.prepare.for_teacher(seen), torch.tensor((0.6 - 0.1) / 0.25))
