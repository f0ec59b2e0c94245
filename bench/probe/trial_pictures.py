"""Pictures of trials: speed against peak memory, and prediction against measurement."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.probe.choose import front
from bench.trials import Trial, by_stage
from distill.base.units import MIB
from distill.report.figure import new_figure, save
from distill.spec.candidate import PRECISIONS, STAGES, Checkpointing
from distill.spec.profile import Budget, Choice

MARKERS = {"fp32": "o", "fp16": "s", "bf16": "^"}
FILLS: dict[Checkpointing, str] = {0: "none", "cheap": "0.8"}
"""Darker where more of a block runs again."""


def draw_speed(
    path: Path, trials: Sequence[Trial], choices: Sequence[Choice], budget: Budget, title: str
) -> None:
    """Images a second against peak reserved memory, a panel a stage.

    The Pareto front is a line, the limit a red one, the choice ringed; filled with checkpointing,
    measured ones with their quartiles. Predicted speeds are upper bounds, and the axis says so.
    """
    stages = by_stage(t for t in sorted(trials, key=_place) if _point(t) is not None)
    if not stages:
        return
    figure = new_figure(4.2 * len(stages), 4.4)
    axes = figure.subplots(1, len(stages), squeeze=False)
    chosen = {choice.stage: choice for choice in choices}
    for panel, (stage, mine) in zip(axes[0], stages.items(), strict=True):
        _speed_panel(panel, mine, chosen.get(stage), budget)
        panel.set_title(stage, fontsize=10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle(title, fontsize=11)
    save(path, figure)


def _speed_panel(axes: Any, trials: Sequence[Trial], choice: Choice | None, budget: Budget) -> None:
    for name in dict.fromkeys(trial.candidate.label for trial in trials):
        mine = [trial for trial in trials if trial.candidate.label == name]
        peaks, rates = zip(*(_point(trial) or (0.0, 0.0) for trial in mine), strict=True)
        candidate = mine[0].candidate
        axes.scatter(
            peaks,
            rates,
            s=18,
            marker=MARKERS[candidate.precision],
            facecolor=FILLS.get(candidate.checkpointing, "0.4"),
            edgecolor="black",
            linewidth=0.7,
            label=name,
        )
    _draw_quartiles(axes, trials)
    points = [_point(trial) or (0.0, 0.0) for trial in trials]
    axes.plot(*zip(*front(points), strict=True), color="black", linewidth=0.8, label="front")
    axes.axvline(budget.limit_bytes / MIB, color="red", linewidth=1.5, label="limit")
    if choice is not None and choice.images_per_second is not None:
        axes.scatter(
            [choice.peak_reserved_bytes / MIB],
            [choice.images_per_second],
            s=140,
            facecolor="none",
            edgecolor="red",
            linewidth=1.5,
            label="chosen",
        )
    measured = any(trial.reading and trial.reading.source == "measured" for trial in trials)
    limit = budget.limit_bytes / MIB
    axes.set_xlim(0, 1.05 * max(limit, min(max(peak for peak, _ in points), 2 * limit)))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("peak reserved (MiB)", fontsize=8)
    axes.set_ylabel("images/s" if measured else "images/s, at most (roofline)", fontsize=8)


def _draw_quartiles(axes: Any, trials: Sequence[Trial]) -> None:
    """A thin line from the slow quartile to the fast one of each trial that was timed."""
    for trial in trials:
        quartiles, point = trial.quartiles, _point(trial)
        if quartiles is not None and point is not None:
            images = trial.candidate.effective_batch
            rates = [images / quartiles.upper_seconds, images / quartiles.lower_seconds]
            axes.plot([point[0]] * 2, rates, color="0.5", linewidth=0.7, zorder=0)


def _place(trial: Trial) -> tuple[int, int, int, int]:
    """The place of a trial in the grid, whenever it was done."""
    c = trial.candidate
    kind = STAGES.index(c.stage), PRECISIONS.index(c.precision), c.checkpointing_order
    return *kind, c.micro_batch


def _point(trial: Trial) -> tuple[float, float] | None:
    reading, rate = trial.reading, trial.images_per_second
    if reading is None or reading.reserved_bytes is None or rate is None:
        return None
    return reading.reserved_bytes / MIB, rate


def draw_agreement(
    path: Path, predicted: Iterable[Trial], measured: Iterable[Trial], title: str
) -> int:
    """Predicted against measured peaks with the diagonal; how many points. None: no file."""
    pairs = agreement(predicted, measured)
    if not pairs:
        return 0
    figure = new_figure(5.4, 5.4)
    axes = figure.subplots()
    for kind, marker in (("requested", "x"), ("allocated", "+"), ("reserved", ".")):
        there = [(x, y) for name, x, y in pairs if name == kind]
        if there:
            xs, ys = zip(*there, strict=True)
            axes.scatter(xs, ys, s=26, marker=marker, color="black", label=kind)
    top = 1.05 * max(max(x, y) for _, x, y in pairs)
    axes.plot([0, top], [0, top], color="red", linewidth=1, label="equal")
    axes.set(xlabel="predicted (MiB)", ylabel="measured (MiB)", xlim=(0, top), ylim=(0, top))
    axes.set_title(title, fontsize=11)
    axes.legend(fontsize=8)
    save(path, figure)
    return len(pairs)


def agreement(
    predicted: Iterable[Trial], measured: Iterable[Trial]
) -> list[tuple[str, float, float]]:
    """Requested, allocated and reserved MiB of each trial that was both predicted and measured."""
    foreseen = {trial.candidate: trial.reading for trial in predicted}
    pairs = []
    for trial in measured:
        before, after = foreseen.get(trial.candidate), trial.reading
        if before is None or after is None:
            continue
        for kind, x, y in (
            ("requested", before.requested_bytes, after.requested_bytes),
            ("allocated", before.allocated_bytes, after.allocated_bytes),
            ("reserved", before.reserved_bytes, after.reserved_bytes),
        ):
            if x is not None and y is not None:
                pairs.append((kind, x / MIB, y / MIB))
    return pairs
