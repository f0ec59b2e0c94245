"""The learning curves of a run as one picture: loss and validation accuracy, a line a stage."""

import csv
from collections.abc import Mapping
from pathlib import Path

from distill.report.figure import new_figure, save
from distill.spec.candidate import StageName

LINES = ("-", "--", ":")
"""One line style a stage, so that the picture reads in grey."""


def draw_curves(path: Path, logs: Mapping[StageName, Path]) -> None:
    """Draw training and validation loss, and validation accuracy, from the stages' epoch logs."""
    figure = new_figure(9, 3.6)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for (stage, log), style in zip(logs.items(), LINES * 3, strict=False):
        rows = _read(log)
        epochs = [int(row["epoch"]) for row in rows]
        loss_axes.plot(epochs, [float(row["val_loss"]) for row in rows], style, label=stage)
        percent = [100 * float(row["val_accuracy"]) for row in rows]
        accuracy_axes.plot(epochs, percent, style, label=stage)
    loss_axes.set(xlabel="epoch", ylabel="validation cross-entropy (nats)", yscale="log")
    accuracy_axes.set(xlabel="epoch", ylabel="validation accuracy (%)")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    save(path, figure)


def _read(log: Path) -> list[dict[str, str]]:
    with log.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
