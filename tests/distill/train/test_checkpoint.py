"""Checkpoints: nothing lost, nothing mixed up, the best by what was recorded."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.amp.grad_scaler import GradScaler

from distill.base.errors import UserError
from distill.train.best_weights import drop_superseded, find_best, load_weights, save_best
from distill.train.checkpoint import Identity, PartialEpoch, Position, load_latest, save_latest
from distill.train.optimizer_state import SCALER_KEYS
from distill.train.run_folder import EpochRow, StageFolder
from tests.nodes import odd_things, within

LOWERED = ("epoch", "update", "planned", "micro_batch")
IDENTITY = Identity(stage="student", recipe="abc", teacher="def")


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "student", "vit_tiny_student")


def row(epoch: int, accuracy: float) -> EpochRow:
    values = dict.fromkeys(EpochRow.__dataclass_fields__, 0.5)
    return EpochRow(**{**values, "epoch": epoch, "val_accuracy": accuracy, "gpu_memory_mb": None})


def parts():
    model = nn.Linear(2, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3), GradScaler("cpu", enabled=False)


def trained():
    model, optimizer, scaler = parts()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer, scaler


def test_what_was_saved_comes_back(folder: StageFolder) -> None:
    model, optimizer, scaler = trained()
    partial = PartialEpoch(updates=3, seconds=9.0, input_seconds=0.5, peak_reserved_bytes=1024)
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    for labels in ([1, 0], [1, 1]):
        partial.tally.add(torch.tensor(0.5), logits, torch.tensor(labels))
    saved = Position(rows=[row(1, 0.5)], partial=partial)
    save_latest(folder, IDENTITY, saved, model, optimizer, scaler)
    other, other_optimizer, other_scaler = parts()
    position = load_latest(folder, IDENTITY, other, other_optimizer, other_scaler)
    assert torch.equal(model.weight, other.weight)
    assert position.rows == saved.rows and position.epoch == 1
    assert position.partial is not None and position.partial.updates == 3
    assert (position.partial.seconds, position.partial.input_seconds) == (9.0, 0.5)
    assert position.partial.tally.scores(2) == partial.tally.scores(2)
    assert str(other_optimizer.state_dict()) == str(optimizer.state_dict())


def test_the_time_for_input_of_an_epoch_that_an_earlier_version_began_is_not_known(
    folder: StageFolder,
) -> None:
    save_latest(folder, IDENTITY, Position([], PartialEpoch(updates=3, seconds=9.0)), *trained())
    spoil(folder, lambda document: document["partial"].pop("input_seconds"))
    position = load_latest(folder, IDENTITY, *parts())
    assert position.partial is not None and position.partial.input_seconds is None


def test_another_device_or_precision_goes_on_with_its_own_optimizer_and_scaler(
    folder: StageFolder,
) -> None:
    """Saved without a scaler by the foreach optimizer, as on a CPU."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_latest(folder, IDENTITY, Position([], None), model, optimizer, parts()[2])
    other = nn.Linear(2, 2)
    fused = torch.optim.AdamW(other.parameters(), lr=1e-3, fused=True)
    load_latest(folder, IDENTITY, other, fused, GradScaler("cpu", enabled=True))
    assert (fused.param_groups[0]["fused"], fused.param_groups[0]["foreach"]) == (True, None)
    assert torch.equal(model.weight, other.weight)
    assert all(len(state) == 3 for state in fused.state.values())


def test_without_a_checkpoint_training_starts_at_the_beginning(folder: StageFolder) -> None:
    position = load_latest(folder, IDENTITY, *parts())
    assert position.epoch == 0 and position.partial is None


def test_a_checkpoint_of_other_work_is_refused(folder: StageFolder) -> None:
    save_latest(folder, IDENTITY, Position([], None), *parts())
    other = Identity(stage="student", recipe="abc", teacher="another")
    with pytest.raises(UserError, match="was begun with another teacher. .*--fresh"):
        load_latest(folder, other, *parts())


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_torn_checkpoint_is_one_sentence(folder: StageFolder, keep: int) -> None:
    save_latest(folder, IDENTITY, Position([], None), *parts())
    folder.latest.write_bytes(folder.latest.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"latest.pth can't be read .*Remove it"):
        load_latest(folder, IDENTITY, *parts())


def test_there_is_one_best_file_and_it_is_the_best(folder: StageFolder) -> None:
    for epoch, accuracy in [(1, 0.5), (2, 0.9312), (3, 0.95)]:
        drop_superseded(folder, save_best(folder, row(epoch, accuracy), nn.Linear(2, 2)))
    assert [path.name for path in folder.best_files()] == ["best_acc_95.00.pth"]


def test_the_best_is_found_by_what_was_recorded_not_by_its_name(folder: StageFolder) -> None:
    good, bad = nn.Linear(2, 2), nn.Linear(2, 2)
    save_best(folder, row(4, 0.9), good)
    (folder.checkpoints / "best_acc_90.00.pth").rename(folder.checkpoints / "best_acc_00.00.pth")
    keep = (folder.checkpoints / "best_acc_00.00.pth").read_bytes()
    save_best(folder, row(9, 0.8), bad)
    (folder.checkpoints / "best_acc_00.00.pth").write_bytes(keep)
    found = find_best(folder)
    assert found is not None and found[1:] == (4, 0.9)
    model = nn.Linear(2, 2)
    load_weights(found[0], model)
    assert torch.equal(model.weight, good.weight)


def test_weights_of_another_shape_are_refused(folder: StageFolder) -> None:
    save_best(folder, row(1, 0.5), nn.Linear(2, 2))
    with pytest.raises(UserError, match="does not hold this model's weights"):
        load_weights(folder.best_files()[0], nn.Linear(3, 2))


def test_what_a_user_put_there_is_no_best_checkpoint(folder: StageFolder) -> None:
    kept = save_best(folder, row(1, 0.5), parts()[0])
    mine = folder.checkpoints / "best_acc_before_the_holidays.pth"
    mine.write_bytes(b"mine")
    assert find_best(folder) == (kept, 1, 0.5)
    drop_superseded(folder, kept)
    assert mine.exists()


def test_nothing_is_unpickled(folder: StageFolder) -> None:
    folder.checkpoints.mkdir(parents=True)
    torch.save(
        {"schema": 1, "student": Path("not a tensor")}, folder.checkpoints / "best_acc_1.00.pth"
    )
    with pytest.raises(UserError, match="can't be read"):
        find_best(folder)


def damaged(content: bytes, how: str) -> bytes:
    """The bytes of a checkpoint with some of its numbers gone, or one bit of them turned."""
    place = content.index(b"data/0") + 100
    if how == "zeroed":
        return content[:place] + bytes(64) + content[place + 64 :]
    if how == "flipped":
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    return b"no archive"


@pytest.mark.parametrize("damage", ["torn", "gone", "zeroed", "flipped", "no archive"])
def test_after_a_damaged_checkpoint_the_one_before_it_goes_on(
    folder: StageFolder, damage: str
) -> None:
    for rows in ([row(1, 0.5)], [row(1, 0.5), row(2, 0.6)]):
        save_latest(folder, IDENTITY, Position(rows, None), *parts())
    if damage == "torn":
        folder.latest.write_bytes(folder.latest.read_bytes()[:700])
    elif damage == "gone":
        folder.latest.unlink()
    else:
        folder.latest.write_bytes(damaged(folder.latest.read_bytes(), damage))
    told: list[str] = []
    assert load_latest(folder, IDENTITY, *parts(), told.append).epoch == 1
    assert len(told) == 1 and told[0].endswith("goes on from previous.pth")


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_saved(folder: StageFolder) -> None:
    """In a child that may write no file beyond 30 kB, as on a disk with no room for more."""
    save_latest(folder, IDENTITY, Position([row(1, 0.5)], None), *parts())
    before = folder.latest.read_bytes()
    code = f"""
import resource, signal, torch
from pathlib import Path
from torch.amp.grad_scaler import GradScaler
from distill.train.checkpoint import Identity, Position, save_latest
from distill.base.errors import RunFailed
from distill.train.run_folder import StageFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
model = torch.nn.Linear(100, 1000)
optimizer, scaler = torch.optim.SGD(model.parameters()), GradScaler("cpu", enabled=False)
identity = Identity(stage="student", recipe="abc", teacher="def")
try:
    save_latest(
        StageFolder(Path({str(folder.root)!r}), "x"), identity, Position([], None),
        model, optimizer, scaler,
    )
except RunFailed as error:
    print(error)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "File too large" in printed and "make room and give the same command again" in printed
    assert folder.latest.read_bytes() == before
    assert [path.name for path in folder.checkpoints.iterdir()] == ["latest.pth"]


def test_more_classes_in_the_checkpoint_than_in_the_data_is_said(folder: StageFolder) -> None:
    there, here = nn.Sequential(), nn.Sequential()
    there.add_module("head", nn.Linear(2, 100))
    here.add_module("head", nn.Linear(2, 10))
    path = save_best(folder, row(1, 0.5), there)
    with pytest.raises(UserError, match="tells 100 classes apart, the data has 10"):
        load_weights(path, here)


def test_the_best_weights_are_safetensors_as_well(folder: StageFolder) -> None:
    model = nn.Linear(2, 2)
    path = save_best(folder, row(1, 0.5), model)
    assert torch.equal(load_file(path.with_suffix(".safetensors"))["weight"], model.weight)


def test_the_safetensors_name_the_classes(folder: StageFolder) -> None:
    path = save_best(folder, row(1, 0.5), nn.Linear(2, 2), ["cat", "d\udcc3g"])
    with safe_open(path.with_suffix(".safetensors"), framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["cat", "d\udcc3g"]


def test_a_damaged_best_checkpoint_is_read_from_the_safetensors_beside_it(
    folder: StageFolder,
) -> None:
    model = nn.Linear(2, 2)
    path = save_best(folder, row(3, 0.5), model)
    path.write_bytes(path.read_bytes()[:-200])
    assert find_best(folder) == (path, 3, 0.5)
    other = nn.Linear(2, 2)
    load_weights(path, other)
    assert torch.equal(other.weight, model.weight)
    beside = path.with_suffix(".safetensors")
    for damage in (lambda: beside.write_bytes(b"torn"), beside.unlink):
        damage()
        with pytest.raises(UserError, match="can't be read"):
            find_best(folder)


def spoil(folder: StageFolder, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of the latest checkpoint, whose checksums then are right again."""
    document = torch.load(folder.latest, weights_only=True)
    change(document)
    torch.save(document, folder.latest)


def optimizer_with(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["optimizer"]["param_groups"][0].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("rows"), "rows is missing"),
        (lambda d: d.update(rows=None), "rows = None is not possible"),
        (lambda d: d["rows"][0].update(epoch=-1), "rows.0.epoch = -1 is not possible"),
        (lambda d: d["rows"][0].update(epoch=7), "its epochs do not count on from 1"),
        (lambda d: d["rows"][0].update(val_accuracy="0.5"), "val_accuracy = '0.5'"),
        (lambda d: d["rows"][0].pop("val_loss"), "rows.0.val_loss is missing"),
        (lambda d: d.pop("identity"), "identity is missing"),
        (lambda d: d.update(identity=[]), r"identity = \[\] is not possible"),
        (lambda d: d["identity"].pop("recipe"), "identity.recipe is missing"),
        (lambda d: d.update(threads=-1), "threads = -1 is not possible"),
        (lambda d: d.update(threads="1"), "threads = '1' is not possible"),
        (lambda d: d.update(threads=None), "threads = None is not possible"),
        (lambda d: d.update(threads=torch.ones(2)), "threads = 'tensor"),
        (lambda d: d.update(lowered=None), "lowered = None is not possible"),
        (lambda d: d.update(lowered=[{"epoch": 1}]), "lowered.0.update is missing"),
        (lambda d: d.update(lowered=[dict.fromkeys(LOWERED, -1)]), "lowered.0.epoch = -1"),
        (lambda d: d.update(partial=3), "partial = 3 is not possible"),
        (lambda d: d.update(partial={"updates": -1}), "partial.updates = -1 is not possible"),
        (lambda d: d["partial"].pop("tally"), "holds no tally"),
        (lambda d: d["partial"]["tally"].update(labels=3), "holds no tally"),
        (lambda d: d["partial"]["tally"].update(labels=[]), "holds no tally"),
        (lambda d: d["partial"]["tally"].update(loss_sum="1"), "tally .* is not possible"),
        (lambda d: d["partial"]["tally"]["logits"].clear(), None),
        (lambda d: d["partial"]["tally"]["labels"][0].fill_(-1), "tally .* is not possible"),
        (lambda d: d["partial"]["tally"]["logits"].append(torch.ones(2)), "tally .* not possible"),
        (lambda d: d.pop("optimizer"), "no state of an optimizer"),
        (lambda d: d.update(optimizer=None), "no state of an optimizer"),
        (lambda d: d["optimizer"].update(param_groups=[]), "other groups of parameters"),
        (optimizer_with(params=[0]), "other parameters"),
        (optimizer_with(lr="1"), "optimizer's lr is not possible"),
        (optimizer_with(lr=float("nan")), "optimizer's lr is not possible"),
        (optimizer_with(lr=10**400), "optimizer's lr is not possible"),
        (lambda d: d["partial"]["tally"].update(predicted=[10**400]), "holds no tally"),
        (optimizer_with(betas=0.9), "optimizer's betas is not possible"),
        (
            lambda d: d["optimizer"]["state"][0].update(exp_avg=torch.ones(7)),
            "state of parameter 0",
        ),
        (lambda d: d["optimizer"]["state"][0].pop("exp_avg"), "state of parameter 0"),
        (lambda d: d["optimizer"]["state"][0].update(step="1"), "state of parameter 0"),
        (lambda d: d["optimizer"]["state"].update({99: {}}), "other parameters"),
        (lambda d: d.update(scaler=None), "no state of a gradient scaler"),
        (lambda d: d.update(scaler={"scale": 1.0}), "no state of a gradient scaler"),
        (lambda d: d.update(scaler=dict.fromkeys(SCALER_KEYS, -1.0)), "scaler is not possible"),
        (lambda d: d.update(student=None), "holds no weights"),
        (lambda d: d["student"].update(weight=1.0), "weight is no tensor"),
    ],
)
def test_a_field_that_can_not_be_used_is_damage(
    folder: StageFolder, change: Callable[[dict[str, Any]], object], words: str | None
) -> None:
    """Refused in one sentence where it stands alone; else the checkpoint before it is taken."""
    partial = PartialEpoch(updates=3, seconds=9.0)
    partial.tally.add(torch.tensor(0.5), torch.ones(2, 2), torch.tensor([0, 1]))
    for _ in range(2):
        save_latest(folder, IDENTITY, Position([row(1, 0.5)], partial), *trained())
    spoil(folder, change)
    told: list[str] = []
    assert load_latest(folder, IDENTITY, *parts(), told.append).epoch == 1
    if words is None:
        assert not told
        return
    assert len(told) == 1 and re.search(f"is damaged .*{words}.*goes on from previous", told[0])
    folder.previous.unlink()
    with pytest.raises(UserError, match=words) as caught:
        load_latest(folder, IDENTITY, *parts())
    assert "\n" not in str(caught.value)


def test_weights_of_another_rank_are_one_sentence(folder: StageFolder) -> None:
    save_latest(folder, IDENTITY, Position([], None), *parts())
    spoil(folder, lambda document: document["student"].update(weight=torch.tensor(1.0)))
    with pytest.raises(UserError, match="does not hold this model's weights") as caught:
        load_latest(folder, IDENTITY, *parts())
    assert "\n" not in str(caught.value)


def test_what_is_no_plain_file_is_no_checkpoint(folder: StageFolder) -> None:
    folder.checkpoints.mkdir(parents=True)
    for words, path in odd_things(folder.checkpoints):
        folder.latest.unlink(missing_ok=True)
        folder.latest.symlink_to(path)
        with within(5), pytest.raises(UserError, match=words):
            load_latest(folder, IDENTITY, *parts())


def test_a_packed_archive_is_not_unpacked(folder: StageFolder) -> None:
    """A few KiB may unpack to what no disk holds."""
    folder.checkpoints.mkdir(parents=True)
    with ZipFile(folder.latest, "w", ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
    with pytest.raises(UserError, match="its members are packed"):
        load_latest(folder, IDENTITY, *parts())
