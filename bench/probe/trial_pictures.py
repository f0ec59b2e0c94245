"""Pictures of trials: speed against peak memory, and prediction against measurement."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.probe.choose import front
from bench.probe.grid_pictures import panel_title
from bench.trials.trial import Trial, by_stage
from distill.base.units import MIB, mib
from distill.report.figure import FAR, LIMIT_COLOUR, doublings, new_figure, plain_numbers, save
from distill.spec.candidate import PRECISIONS, STAGES, Candidate, Checkpointing
from distill.spec.profile import Budget, Choice

MARKERS = {"fp32": "o", "fp16": "s", "bf16": "x"}
"""A cross is seen within a square: fp16 and bf16 take the same memory and nearly the same time."""

CACHED_MARKERS = {"fp32": "D", "fp16": "^", "bf16": "+"}
"""Of a stage whose teacher is gone, its logits cached."""

COLOURS: dict[Checkpointing, str] = {0: "black", "cheap": "#0072b2", 1: "#e69f00"}
"""Lighter where more of a block runs again."""


def draw_speed(
    path: Path, trials: Sequence[Trial], choices: Sequence[Choice], budget: Budget, title: str
) -> None:
    """Images a second against peak reserved memory, a panel a stage; no file without points."""
    figure = speed_figure(trials, choices, budget, title)
    if figure is not None:
        save(path, figure)


def speed_figure(
    trials: Sequence[Trial], choices: Sequence[Choice], budget: Budget, title: str
) -> Figure | None:
    """The picture, or `None` where no trial has both a peak and a speed.

    The Pareto front is a line, what lies beyond the limit is hatched, the choice is ringed. Markers
    tell the precision and where the teacher is, colours the checkpointing; a measured one has its
    quartiles. The axis says whether speeds are measured, predicted or only bounds.
    """
    stages = by_stage(t for t in sorted(trials, key=_place) if _point(t) is not None)
    if not stages:
        return None
    figure = new_figure(max(4.4 * len(stages), 6), 4.8)
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    chosen = {choice.stage: choice for choice in choices}
    for panel, (stage, mine) in zip(panels, stages.items(), strict=True):
        _speed_panel(panel, mine, chosen.get(stage), budget)
        panel.set_title(panel_title(mine[0].candidate), fontsize=9.5)
    panels[0].set_ylabel(_speed_title(trials), fontsize=9)
    entries = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=6, fontsize=8.5
    )
    figure.suptitle(f"Speed against peak memory, a point a configuration: {title}", fontsize=11)
    return figure


def _speed_title(trials: Sequence[Trial]) -> str:
    """What the speeds are."""
    there = [trial for trial in trials if _point(trial) is not None]
    if all(trial.quartiles is not None for trial in there):
        return "images/s (measured, median)"
    if all(trial.predicted_timing is not None for trial in there):
        return "images/s (predicted)"
    return "images/s, where not measured at most (roofline)"


def _speed_panel(axes: Any, trials: Sequence[Trial], choice: Choice | None, budget: Budget) -> None:
    for name in dict.fromkeys(trial.candidate.label for trial in trials):
        mine = [trial for trial in trials if trial.candidate.label == name]
        peaks, rates = zip(*(_point(trial) or (0.0, 0.0) for trial in mine), strict=True)
        axes.scatter(peaks, rates, label=name, **_look(mine[0].candidate))
    _draw_quartiles(axes, trials)
    points = [_point(trial) or (0.0, 0.0) for trial in trials]
    axes.plot(*zip(*front(points), strict=True), color="0.4", linewidth=0.8, label="front")
    limit = budget.limit_bytes / MIB
    right = 1.2 * max(limit, min(max(peak for peak, _ in points), FAR * limit))
    axes.axvline(limit, color=LIMIT_COLOUR, linewidth=1.5, zorder=0.6)
    axes.axvspan(
        limit, right, facecolor="#f0f0f0", edgecolor="0.7", hatch="////", linewidth=0, zorder=0.5,
        label=f"beyond the limit, {mib(budget.limit_bytes)} MiB",
    )  # fmt: skip
    if choice is not None and choice.images_per_second is not None:
        axes.scatter(
            [choice.peak_reserved_bytes / MIB],
            [choice.images_per_second],
            s=190,
            facecolor="none",
            edgecolor="#cc2277",
            linewidth=2,
            label="chosen",
            zorder=4,
        )
    axes.set(xscale="log", xlim=(0.8 * min(limit, *(peak for peak, _ in points)), right))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("peak reserved (MiB)", fontsize=9)
    doublings(axes.xaxis)
    plain_numbers(axes.yaxis)


def _look(candidate: Candidate) -> dict[str, Any]:
    """Marker and colour of a configuration."""
    colour = COLOURS.get(candidate.checkpointing, "#d55e00")
    is_cached = candidate.teacher_logits == "cached"
    marker = (CACHED_MARKERS if is_cached else MARKERS)[candidate.precision]
    if candidate.precision == "bf16":
        return {"marker": marker, "color": colour, "linewidth": 1.3, "s": 22, "zorder": 3}
    face = colour if candidate.precision == "fp32" else "none"
    return {"marker": marker, "facecolor": face, "edgecolor": colour, "s": 34, "linewidth": 1.1}


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
    axes.plot([0, top], [0, top], color="0.4", linewidth=1, zorder=0, label="equal")
    axes.set(xlabel="predicted (MiB)", ylabel="measured (MiB)", xlim=(0, top), ylim=(0, top))
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    figure.suptitle(f"Peaks of each trial, predicted and measured:\n{title}", fontsize=11)
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
