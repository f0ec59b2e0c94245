"""The best weights are kept twice, and a damaged form is told and never used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from distill.base.digest import file_digest
from distill.base.errors import UserError
from distill.train.best_weights import (
    best_digest,
    find_best,
    load_weights,
    read_weights,
    save_best,
    weights_beside,
)
from distill.train.run_folder import EpochRow, StageFolder
from tests.conftest import ROOT, Command
from tests.nodes import odd_things, within


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "student", "vit_tiny_student")


def row(epoch: int, accuracy: float) -> EpochRow:
    values = dict.fromkeys(EpochRow.__dataclass_fields__, 0.5)
    return EpochRow(**{**values, "epoch": epoch, "val_accuracy": accuracy, "gpu_memory_mb": None})


def overwritten(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(content)


def loaded(path: Path) -> nn.Linear:
    model = nn.Linear(100, 20)
    load_weights(path, model)
    return model


def test_a_damaged_safetensors_is_told_and_the_checkpoint_taken(
    folder: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(100, 20)
    path = save_best(folder, row(1, 0.5), model)
    assert torch.equal(loaded(path).weight, model.weight)
    assert capsys.readouterr().err == ""
    overwritten(weights_beside(path), 1000, bytes(2000))
    assert torch.equal(loaded(path).weight, model.weight)
    told = capsys.readouterr().err
    assert "safetensors is damaged (its content is not what its checksum says); taken from" in told
    assert told.count("\n") == 1
    with pytest.raises(UserError, match="checksum"):
        read_weights(weights_beside(path))


def test_a_damaged_checkpoint_is_told_and_the_safetensors_taken(
    folder: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(100, 20)
    path = save_best(folder, row(1, 0.5), model)
    digest = best_digest(path)
    place = path.read_bytes().index(b"data/0") + 500
    overwritten(path, place, bytes(2000))
    assert torch.equal(loaded(path).weight, model.weight)
    assert f"{path} is damaged" in capsys.readouterr().err
    assert file_digest(path) != best_digest(path) == digest


def test_both_damaged_are_refused(folder: StageFolder) -> None:
    path = save_best(folder, row(1, 0.5), nn.Linear(100, 20))
    overwritten(weights_beside(path), 1000, bytes(2000))
    overwritten(path, path.read_bytes().index(b"data/0") + 500, bytes(2000))
    with pytest.raises(UserError, match="can't be read"):
        loaded(path)


@pytest.mark.parametrize("place", range(0, 2400, 97))
def test_a_single_turned_bit_anywhere_is_noticed(folder: StageFolder, place: int) -> None:
    path = weights_beside(save_best(folder, row(1, 0.5), nn.Linear(20, 20), ["cat", "dog"]))
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError):
        read_weights(path)


def test_weights_of_an_earlier_version_are_held_against_the_checkpoint(
    folder: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have no checksum of their own."""
    path = save_best(folder, row(1, 0.5), nn.Linear(100, 20))
    beside = weights_beside(path)
    about = {"best": json.dumps({"epoch": 1, "val_accuracy": 0.5})}
    weights = load_file(beside)
    save_file(weights, beside, about)
    loaded(path)
    assert capsys.readouterr().err == ""
    weights["bias"][3] += 1
    save_file(weights, beside, about)
    assert torch.equal(loaded(path).bias, load_file(beside)["bias"]) is False
    assert "its weights are not those of the checkpoint" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-200])
    loaded(path)
    assert "which has no checksum" in capsys.readouterr().err


def test_what_an_interruption_leaves_of_another_epoch_is_no_damage(
    folder: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_best(folder, row(1, 0.5), nn.Linear(100, 20))
    old = weights_beside(path).read_bytes()
    save_best(folder, row(2, 0.5), nn.Linear(100, 20))
    weights_beside(path).write_bytes(old)
    assert find_best(folder) == (path, 2, 0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("epoch"), "epoch is missing"),
        (lambda d: d.update(epoch=-1), "epoch = -1 is not possible"),
        (lambda d: d.update(val_accuracy="much"), "val_accuracy = 'much'"),
        (lambda d: d.update(criterion="luck"), "criterion = 'luck'"),
        (lambda d: d.pop("student"), "holds no weights"),
        (lambda d: d.update(student=[1]), "holds no weights"),
    ],
)
def test_a_field_that_can_not_be_used_is_damage(folder: StageFolder, change, words: str) -> None:
    path = save_best(folder, row(1, 0.5), nn.Linear(2, 2))
    weights_beside(path).unlink()
    document = torch.load(path, weights_only=True)
    change(document)
    torch.save(document, path)
    with pytest.raises(UserError, match=words):
        find_best(folder)


def test_what_is_no_plain_file_is_no_weights(folder: StageFolder) -> None:
    path = save_best(folder, row(1, 0.5), nn.Linear(2, 2))
    weights_beside(path).unlink()
    path.unlink()
    for words, other in odd_things(folder.checkpoints):
        for place in (path, weights_beside(path)):
            place.unlink(missing_ok=True)
            place.symlink_to(other)
        with within(5), pytest.raises(UserError, match=words):
            load_weights(path, nn.Linear(2, 2))


@pytest.mark.slow
def test_every_command_that_uses_damaged_weights_says_so(
    tmp_path: Path, recipe_file: Path, command: Command
) -> None:
    """A run whose teacher is finished: tested again, exported, and taught from."""
    whole = ("distill", "run", "--recipe", str(recipe_file), "--device", "cpu", "--epochs", "1")
    assert command(*whole, "--stage", "teacher").returncode == 0
    run = tmp_path / "results" / "from_scratch" / "digits"
    shutil.copytree(run, tmp_path / "kept")
    commands = {
        "evaluate": ("distill", "evaluate", str(run), "--device", "cpu"),
        "export": ("distill", "export", str(run), "--stage", "teacher", "--to", "exported"),
        "teach": (*whole, "--stage", "assistant"),
    }
    for suffix in ("safetensors", "pth"):
        (best,) = run.glob(f"teacher/checkpoints/best_*.{suffix}")
        overwritten(best, 6000, bytes(2000))
        for name, words in commands.items():
            shutil.rmtree(tmp_path / "exported", ignore_errors=True)
            child = command(*words)
            if suffix == "safetensors":  # the other form is whole
                assert child.returncode == 0, child.stderr
                assert f"{best.name} is damaged" in child.stderr, name
            else:
                assert child.returncode == 2, name
                assert "can't be read" in child.stderr.splitlines()[-1]
                assert "another device" not in child.stderr
                assert not (tmp_path / "exported").exists()
        shutil.rmtree(run / "assistant", ignore_errors=True)


def test_the_files_of_an_earlier_version_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    old = ROOT / "tests/old_files/run/teacher"
    assert find_best(StageFolder(old, "vit_tiny_teacher")) is not None
    assert capsys.readouterr().err == ""
