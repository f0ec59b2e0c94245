"""The learning curves of a run as one picture: loss and validation accuracy, a line a stage."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.reading import read_text
from distill.report.figure import new_figure, save
from distill.spec.candidate import StageName

LARGEST_DRAWN = 1e30
"""Larger than any loss that is still learning; axes end in an overflow far above."""

LINES = ("-", "--", ":")
"""One line style a stage, so that the picture reads in grey."""


def draw_curves(path: Path, logs: Mapping[StageName, Path]) -> None:
    """Draw training and validation loss, and validation accuracy, from the stages' epoch logs."""
    figure = new_figure(9, 3.6)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for (stage, log), style in zip(logs.items(), LINES * 3, strict=False):
        try:
            epochs, losses, percent = _read(log)
        except UserError as error:
            say(f"  {stage}  is left out of {path.name}: {error}")
            continue
        loss_axes.plot(epochs, losses, style, label=stage)
        accuracy_axes.plot(epochs, percent, style, label=stage)
    loss_axes.set(xlabel="epoch", ylabel="validation cross-entropy (nats)", yscale="log")
    accuracy_axes.set(xlabel="epoch", ylabel="validation accuracy (%)")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    save(path, figure)


def _read(log: Path) -> tuple[list[int], list[float], list[float]]:
    """Epochs, validation losses and validation accuracies in percent, as the log has them.

    What is no number that can be drawn leaves a gap. Raises `UserError` for what is no log.
    """
    text = read_text(log, "epoch log")
    try:
        rows = [
            (int(row["epoch"]), float(row["val_loss"]), 100 * float(row["val_accuracy"]))
            for row in csv.DictReader(io.StringIO(text))
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"Epoch log {log} is damaged.") from error
    drawn = [(e, _drawn(loss), _drawn(percent)) for e, loss, percent in rows if 0 < e < 2**31]
    return [e for e, _, _ in drawn], [loss for _, loss, _ in drawn], [p for _, _, p in drawn]


def _drawn(value: float) -> float:
    return value if abs(value) < LARGEST_DRAWN else math.nan
