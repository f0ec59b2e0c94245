"""Epochs are written while training goes on: in order, whole, and told when they are there."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from distill.base.errors import Interrupted, RunFailed
from distill.base.signals import StopRequest
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.recipe import load_recipe
from distill.spec.stage_plan import Overrides
from distill.step.step import Step
from distill.train import checkpoint
from distill.train.copied_state import copied

UPDATES = 20
"""Of an epoch of the small recipe on digits."""


@pytest.fixture
def request_here(recipe_file: Path, tmp_path: Path) -> RunRequest:
    return RunRequest(
        recipe=load_recipe(str(recipe_file)),
        profile=None,
        overrides=Overrides(),
        stage="teacher",
        out=tmp_path / "results",
        data_dir=tmp_path,
        device=torch.device("cpu"),
        json_log=tmp_path / "events.jsonl",
    )


def at_update(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Call `act` as an update begins, counted from 1."""
    train, count = Step.train, [0]

    def counted(self: Step, *arguments: object) -> object:
        count[0] += 1
        if count[0] == number:
            act()
        return train(self, *arguments)

    monkeypatch.setattr(Step, "train", counted)


def epochs_told(request: RunRequest) -> list[int]:
    assert request.json_log is not None
    lines = request.json_log.read_text().splitlines() if request.json_log.exists() else []
    return [line["epoch"] for line in map(json.loads, lines) if line["event"] == "epoch"]


def saved_epochs(request: RunRequest) -> int:
    latest = request.folder / "teacher" / "checkpoints" / "latest.pth"
    return len(torch.load(latest, weights_only=True)["rows"]) if latest.exists() else 0


def test_the_next_epoch_is_trained_while_one_is_written_and_it_is_told_when_it_is_there(
    request_here: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, may_write, seen = checkpoint.write_archive, threading.Event(), []

    def slow(*arguments) -> None:
        assert may_write.wait(60)
        write(*arguments)

    def in_the_second_epoch() -> None:
        seen.append((epochs_told(request_here), saved_epochs(request_here)))
        may_write.set()

    monkeypatch.setattr(checkpoint, "write_archive", slow)
    at_update(monkeypatch, UPDATES + 5, in_the_second_epoch)
    run_chain(request_here, StopRequest())
    assert seen == [([], 0)]
    assert (epochs_told(request_here), saved_epochs(request_here)) == ([1, 2], 2)


def test_what_writing_meets_ends_the_run_in_its_own_words(
    request_here: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_archive", full)
    with pytest.raises(RunFailed, match="Cannot write .*latest.pth .No space left on device"):
        run_chain(request_here, StopRequest())
    assert (epochs_told(request_here), saved_epochs(request_here)) == ([], 0)
    folder = request_here.folder / "teacher" / "checkpoints"
    assert {path.suffix for path in folder.iterdir()} == {".pth", ".safetensors"}  # of the best


def test_a_wish_to_stop_waits_for_what_is_being_written(
    request_here: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    at_update(monkeypatch, UPDATES + 1, lambda: setattr(stop, "number", 15))
    with pytest.raises(Exception, match="saved at epoch 2, update 1; the same command"):
        run_chain(request_here, stop)
    assert (epochs_told(request_here), saved_epochs(request_here)) == ([1], 1)


def test_an_epoch_that_a_kill_left_untold_is_told_when_the_run_goes_on(
    request_here: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    with monkeypatch.context() as patch:
        at_update(patch, UPDATES + 1, lambda: setattr(stop, "number", 15))
        with pytest.raises(Interrupted):
            run_chain(request_here, stop)
    (log,) = request_here.folder.rglob("*_log.csv")
    before = log.read_text()
    log.write_text(before.splitlines(keepends=True)[0])  # as a kill leaves it after `latest.pth`
    assert request_here.json_log is not None
    request_here.json_log.write_text("")
    run_chain(request_here, StopRequest())
    assert epochs_told(request_here) == [1, 2]
    assert len(log.read_text().splitlines()) == 3


def test_a_copied_state_is_what_it_was_then_and_loads_again() -> None:
    model = nn.BatchNorm1d(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    kept, kept_optimizer = copied(model), copied(optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    model(torch.randn(4, 2))
    other = nn.BatchNorm1d(2)
    other.load_state_dict(kept.state_dict())
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())
    assert [state["step"].item() for state in kept_optimizer.state_dict()["state"].values()] == [
        1,
        1,
    ]
    torch.optim.AdamW(other.parameters()).load_state_dict(kept_optimizer.state_dict())
