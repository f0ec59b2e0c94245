"""A chain that meets what goes wrong: memory that ends, losses that are no number, SIGKILL.

Failures happen inside the real forward, backward and write; nothing of the chain is replaced.
"""

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import nn

from distill.base.errors import RunFailed
from distill.base.signals import StopRequest
from distill.run import stage as running
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.recipe import load_recipe
from distill.spec.stage_plan import Overrides
from distill.step.step import Step
from tests import forked


@pytest.fixture
def request_for(recipe_file: Path, tmp_path: Path) -> Callable[..., RunRequest]:
    recipe = load_recipe(str(recipe_file))

    def make(out: str, stage: str = "teacher", epochs: int = 2, lr: float = 2e-3) -> RunRequest:
        training = recipe.training.model_copy(update={"epochs": epochs, "learning_rate": lr})
        return RunRequest(
            recipe=recipe.model_copy(update={"training": training}),
            profile=None,
            overrides=Overrides(),
            stage=stage,
            out=tmp_path / out,
            data_dir=tmp_path,
            device=torch.device("cpu"),
        )

    return make


def weights_of(request: RunRequest, stage: str = "teacher") -> dict[str, torch.Tensor]:
    document = torch.load(request.folder / stage / "checkpoints" / "latest.pth", weights_only=True)
    return document["student"]


def with_hook(monkeypatch: pytest.MonkeyPatch, hook: Callable[[nn.Module], None]) -> None:
    """Put a hook on each student as it is built."""
    built_step = running.built_step

    def hooked(*arguments: object, begun: bool) -> Step:
        step = built_step(*arguments, begun=begun)
        hook(step.student)
        return step

    monkeypatch.setattr(running, "built_step", hooked)


def fails_at(calls: set[int], largest: int = 0) -> Callable[[nn.Module], None]:
    """Memory ends in training forwards number …, and in all of more than `largest` images."""
    count = [0]

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not module.training:
            return
        count[0] += 1
        if count[0] in calls or (largest and len(inputs[0]) > largest):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return lambda student: (student.register_forward_pre_hook(before), None)[1]


@pytest.mark.slow
def test_out_of_memory_halves_the_micro_batch_and_learns_the_same(
    request_for, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """At update 5 of epoch 2; gradients differ by summation order only, and so do the weights."""
    plain, failing = request_for("plain"), request_for("failing")
    run_chain(plain, StopRequest())
    with_hook(monkeypatch, fails_at({25}))
    run_chain(failing, StopRequest())
    for name, value in weights_of(plain).items():
        torch.testing.assert_close(weights_of(failing)[name], value, rtol=1e-3, atol=2e-4)
    told = "epoch 2, update 5: from here on 32 × 2 images an update instead of 64 × 1"
    assert told in capsys.readouterr().err
    record = failing.folder / "teacher" / "logs" / "vit_tiny_teacher_events.jsonl"
    event = json.loads(record.read_text())
    assert (event["event"], event["epoch"], event["update"]) == ("out_of_memory", 2, 5)


@pytest.mark.parametrize(
    ("augmentation", "training", "told"),
    [
        ({"mixup": 1.0}, {}, "images may be mixed with others"),
        ({"cutmix": 1.0}, {"patch_drop_rate": 0.5}, "other patches are left out"),
    ],
)
def test_where_smaller_micro_batches_change_what_is_learnt_it_is_said(
    request_for,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    augmentation: dict,
    training: dict,
    told: str,
) -> None:
    request = request_for("out", epochs=1)
    changed = {
        "augmentation": request.recipe.augmentation.model_copy(update=augmentation),
        "training": request.recipe.training.model_copy(update=training),
    }
    with_hook(monkeypatch, fails_at({2}))
    run_chain(replace(request, recipe=request.recipe.model_copy(update=changed)), StopRequest())
    said = capsys.readouterr().err
    assert f"32 × 2 images an update instead of 64 × 1; {told}" in said
    assert "what is learnt stays the same" not in said


@pytest.mark.slow
def test_at_one_image_at_a_time_it_stops_with_computed_advice(
    request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hook(monkeypatch, fails_at(set(range(1, 99))))
    with pytest.raises(RunFailed) as failure:
        run_chain(request_for("out"), StopRequest())
    assert "Out of memory with one image at a time (epoch 1, update 1)" in str(failure.value)
    assert "1 × 64 images" in str(failure.value) and "predicted" in str(failure.value)


def test_three_losses_in_a_row_that_are_no_number_stop_the_run(
    request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good state stays: the weights of epoch 1, all of them numbers."""
    request, count = request_for("out"), [0]

    def after(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        count[0] += module.training
        return output * float("nan") if module.training and count[0] > 22 else output

    with_hook(monkeypatch, lambda student: (student.register_forward_hook(after), None)[1])
    with pytest.raises(RunFailed, match=r"not finite in 3 updates in a row .*epoch 2.*lower --lr"):
        run_chain(request, StopRequest())
    assert all(value.isfinite().all() for value in weights_of(request).values())


def test_one_loss_that_is_no_number_is_not_learnt_from(
    request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, count = request_for("out", epochs=1), [0]

    def after(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        count[0] += module.training
        return output * float("nan") if module.training and count[0] == 3 else output

    with_hook(monkeypatch, lambda student: (student.register_forward_hook(after), None)[1])
    run_chain(request, StopRequest())
    assert all(value.isfinite().all() for value in weights_of(request).values())


KILLS = (1, 7, 19, 2, 24, 4, 11, 8, 5, 3)
"""At which of its updates (odd places) or writes to a file (even places) each attempt dies."""


def dying(request: RunRequest, update: int | None, write: int | None) -> int:
    """Run the chain in a forked child that kills itself there; returns how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    train, counts = Step.train, {"update": 0, "write": 0}

    def counted(limit: int | None, what: str) -> None:
        counts[what] += 1
        if counts[what] == limit:
            os.kill(os.getpid(), signal.SIGKILL)

    def train_or_die(self: Step, *arguments: object) -> object:
        counted(update, "update")
        return train(self, *arguments)

    replace_file = Path.replace

    def replace_or_die(self: Path, target: Path) -> Path:
        counted(write, "write")
        return replace_file(self, target)

    Step.train, Path.replace = train_or_die, replace_or_die
    status = 1
    try:
        run_chain(request, StopRequest())
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def kill_ten_times(whole: RunRequest, killed: RunRequest) -> None:
    """In a fresh process with all loaded: autograd's threads do not survive a fork."""
    torch.set_num_threads(1)
    forked.load()
    assert dying(whole, None, None) == 0
    for place, moment in enumerate(KILLS):
        update, write = (None, moment) if place % 2 else (moment, None)
        assert dying(killed, update, write) == -signal.SIGKILL
    assert dying(killed, None, None) == 0


@pytest.mark.slow
def test_ten_sigkills_end_with_the_same_student(request_for) -> None:
    whole, killed = request_for("whole", "all"), request_for("killed", "all")
    process = get_context("spawn").Process(target=kill_ten_times, args=(whole, killed))
    process.start()
    process.join()
    assert process.exitcode == 0
    for stage in ("teacher", "assistant", "student"):
        ours, theirs = weights_of(killed, stage), weights_of(whole, stage)
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        logs = [next((r.folder / stage / "logs").glob("*_log.csv")) for r in (whole, killed)]
        epochs = [[row.split(",")[0] for row in log.read_text().splitlines()] for log in logs]
        assert epochs == [["epoch", "1", "2"]] * 2
