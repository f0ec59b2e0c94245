"""The learning curves of a run as one picture: loss and accuracy, a line a stage."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.reading import read_text
from distill.report.figure import new_figure, save
from distill.spec.candidate import StageName

LARGEST_DRAWN = 1e30
"""Larger than any loss that is still learning; axes end in an overflow far above."""

LINES = ("-", "--", ":")
COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""One line style and one colour a stage: told apart in grey and by the colour-blind (Wong 2011)."""

RINGS = (9, 13, 17)
"""Sizes of the rings, one a stage: those of one place are told apart."""

PLAIN_STEPS = (1, 2, 5)
"""Where a logarithmic axis has a number in each decade."""

COLUMNS = ("epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy")
Columns = dict[str, list[float]]


def draw_curves(
    path: Path, logs: Mapping[StageName, Path], best_epochs: Mapping[StageName, int] | None = None
) -> None:
    """Draw loss and accuracy of training and validation from the stages' epoch logs.

    The epoch whose weights were kept is ringed, where `best_epochs` has it. What is no log is left
    out, which is said.
    """
    read = {}
    for stage, log in logs.items():
        try:
            read[stage] = _read(log)
        except UserError as error:
            say(f"  {stage}  is left out of {path.name}: {error}")
    save(path, curves_figure(read, best_epochs or {}))


def curves_figure(
    logs: Mapping[StageName, Columns], best_epochs: Mapping[StageName, int]
) -> Figure:
    """The picture, from the columns of each stage's log: losses in nats, accuracies in percent."""
    figure = new_figure(9, 4)
    panels = figure.subplots(1, 2)
    styles = zip(logs.items(), LINES, COLOURS, RINGS, strict=False)
    for (stage, read), line, colour, ring in styles:
        points = "." if len(read["epoch"]) == 1 else None  # a line needs two
        for axes, what in zip(panels, ("loss", "accuracy"), strict=True):
            thick = {"color": colour, "marker": points, "markersize": 9}
            axes.plot(read["epoch"], read[f"val_{what}"], line, label=stage, **thick)
            thin = {"color": colour, "linewidth": 0.7, "alpha": 0.6, "marker": points}
            axes.plot(read["epoch"], read[f"train_{what}"], line, **thin)
            kept = best_epochs.get(stage)
            if kept in read["epoch"]:
                value = read[f"val_{what}"][read["epoch"].index(kept)]
                axes.plot([kept], [value], "o", markersize=ring, color=colour, fillstyle="none")
    _label(*panels)
    figure.suptitle(
        "Learning curves. Thick: validation; ringed: the epoch whose weights are kept.\n"
        "Thin: training, where a taught stage's loss is against its teacher too.",
        fontsize=9,
    )
    return figure


def _label(loss_axes: Any, accuracy_axes: Any) -> None:
    """Plain numbers and whole epochs."""
    loss_axes.set(xlabel="epoch", ylabel="loss (nats an image)", title="Loss")
    accuracy_axes.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 102), title="Accuracy")
    if any(value > 0 for line in loss_axes.lines for value in line.get_ydata()):
        loss_axes.set_yscale("log")
        loss_axes.yaxis.set_major_locator(LogLocator(subs=PLAIN_STEPS))
    loss_axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss_axes.yaxis.set_minor_formatter(NullFormatter())
    for axes in (loss_axes, accuracy_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        epochs = [epoch for line in axes.lines for epoch in line.get_xdata()]
        if len(set(epochs)) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()


def _read(log: Path) -> Columns:
    """Epochs, losses and accuracies in percent, as the log has them.

    What is no number that can be drawn leaves a gap. Raises `UserError` for what is no log.
    """
    columns: Columns = {name: [] for name in COLUMNS}
    text = read_text(log, "epoch log")
    try:
        for row in csv.DictReader(io.StringIO(text)):
            values: dict[str, float] = {name: float(row[name]) for name in columns}
            if 0 < values["epoch"] < 2**31:
                for name, value in values.items():
                    percent = 100 if name.endswith("accuracy") else 1
                    columns[name].append(_drawn(percent * value))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"Epoch log {log} is damaged.") from error
    return columns


def _drawn(value: float) -> float:
    return value if abs(value) < LARGEST_DRAWN else math.nan
