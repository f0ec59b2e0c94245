"""What is told while a stage trains: never without speed, memory and the time left."""

import pytest

from distill.base.units import GIB
from distill.step.memory import Usage
from distill.train import stage_progress
from distill.train.stage_progress import BarState, StageProgress


def state_of(images_per_second: float = 10_234.0) -> BarState:
    usage = Usage(
        allocated_bytes=4 * GIB,
        reserved_bytes=round(4.5 * GIB),
        peak_reserved_bytes=round(4.82 * GIB),
        device_used_bytes=5 * GIB,
    )
    return BarState(
        epoch=10,
        update=100,
        loss=1.234,
        accuracy=0.8123,
        images_per_second=images_per_second,
        usage=usage,
        limit_bytes=round(4.89 * GIB),
    )


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> StageProgress:
    """Of a stage that is at its end, with many hours still to go by its first updates."""
    made = StageProgress(
        "assistant",
        epochs=10,
        updates_per_epoch=1000,
        done=0,
        later_updates=500,
        validated="accuracy 79.82 %",
    )
    made.done = 9_999
    monkeypatch.setattr(made, "seconds_left", lambda: (86_000.0, 90_000.0))
    return made


@pytest.mark.parametrize("width", [66, 72, 80, 100, 132, 200])
def test_speed_memory_and_time_left_are_there_at_any_width(progress, width: int) -> None:
    line = progress.line(state_of(), width)
    assert len(line) <= width - 2  # room for the bar itself
    assert "10,234 im" in line and "4.82" in line and "4.89 GiB" in line
    assert "23 h 53 min left" in line


@pytest.mark.parametrize("width", [80, 100, 250])
def test_training_and_validation_are_called_so(progress, width: int) -> None:
    line = progress.line(state_of(234.0), width)
    assert "val 79.82%" in line or "last validation accuracy 79.82 %" in line
    assert "train 81.2%" in line or "training loss 1.234, accuracy 81.2 %" in line
    if width == 250:
        assert "epoch 10/10 · step 100/1000" in line and "1 d" not in line


def test_without_a_terminal_there_is_a_line_a_minute(
    progress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = progress.began
    monkeypatch.setattr(stage_progress.time, "perf_counter", lambda: now)
    told = 0
    for _ in range(600):
        now += 0.5
        told += progress.updated()
    assert told == 5
    progress.show(state_of())
    assert "epoch 10/10, step 100/1000, training loss 1.234" in capsys.readouterr().err
