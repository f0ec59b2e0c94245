"""Learning curves: plain numbers, whole epochs, and the epoch that is kept."""

from pathlib import Path

import pytest

from distill.report.curves import curves_figure, draw_curves

COLUMNS = {
    "epoch": [1, 2, 3],
    "train_loss": [2.0, 0.9, 0.004],
    "val_loss": [2.1, 1.0, 1.2],
    "train_accuracy": [20.0, 70.0, 99.0],
    "val_accuracy": [19.0, 66.0, 64.0],
}


def test_axes_have_plain_numbers_and_whole_epochs() -> None:
    figure = curves_figure({"teacher": COLUMNS}, {})
    figure.canvas.draw()
    loss_axes, accuracy_axes = figure.axes
    losses = [label.get_text() for label in loss_axes.get_yticklabels()]
    assert {"0.01", "1", "2"} <= set(losses) and not any("$" in text for text in losses)
    for axes in (loss_axes, accuracy_axes):
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_single_epoch_is_drawn_as_points_over_a_whole_number() -> None:
    one = {name: values[:1] for name, values in COLUMNS.items()}
    figure = curves_figure({"teacher": one, "student": one}, {"teacher": 1, "student": 1})
    figure.canvas.draw()
    for axes in figure.axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
        lines = [line for line in axes.lines if line.get_marker() == "."]
        assert len(lines) == 4
        rings = [line.get_markersize() for line in axes.lines if line.get_marker() == "o"]
        assert len(set(rings)) == 2


def test_the_epoch_that_is_kept_is_ringed_at_its_validation_score() -> None:
    figure = curves_figure({"teacher": COLUMNS}, {"teacher": 2})
    rings = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert [(list(ring.get_xdata()), list(ring.get_ydata())) for ring in rings] == [
        ([2], [1.0]),
        ([2], [66.0]),
    ]


def test_training_is_thinner_than_validation() -> None:
    figure = curves_figure({"teacher": COLUMNS}, {})
    for axes in figure.axes:
        validation, training = axes.lines
        assert training.get_linewidth() < validation.get_linewidth()


def test_what_is_no_log_is_left_out_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("epoch,val_loss\n1,2\n")
    draw_curves(tmp_path / "curves.png", {"teacher": log})
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "teacher  is left out of curves.png" in capsys.readouterr().err
