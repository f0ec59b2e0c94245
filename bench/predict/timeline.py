"""The timeline of one update as a picture: whose bytes, phase by phase, up to the peak."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.simulate.program.program import Program
from bench.simulate.replay import Replay
from distill.base.units import MIB, mib
from distill.report.figure import (
    FAR,
    GREYS,
    HATCHES,
    LIMIT_COLOUR,
    check_picture,
    new_figure,
    plain_numbers,
    save,
)
from distill.report.tables import OWNER_TITLES
from distill.spec.file_values import OWNERS

ROOM = 1.25
"""How much higher than the highest value axes reach: there stands the peak's label."""


def drawing_to(path: Path) -> Callable[[Program, Replay, int | None, str], None]:
    """`draw_timeline` for a path. Raises `UserError` at once where no picture can be written."""
    check_picture(path)
    return partial(draw_timeline, path)


def draw_timeline(
    path: Path, program: Program, run: Replay, limit_bytes: int | None, title: str
) -> None:
    """One update in program order: requested MiB stacked by owner, reserved above.

    The update is the one that holds the peak; its phases are marked.
    """
    save(path, timeline_figure(program, run, limit_bytes, title))


def timeline_figure(program: Program, run: Replay, limit_bytes: int | None, title: str) -> Figure:
    """The picture. Nothing but the peak's label and its arrow stands in the uppermost fifth."""
    figure = new_figure(10, 5.2)
    axes = figure.subplots()
    axes.set_ylim(0, ROOM * draw_update(axes, program, run, limit_bytes))
    figure.suptitle(f"Whose bytes an update holds: {title}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    return figure


def draw_update(axes: Any, program: Program, run: Replay, limit_bytes: int | None) -> float:
    """The update that holds the peak, on axes; gives the highest MiB. Above it stands the label,
    so that the axes are to reach to `ROOM` times as much.
    """
    assert run.timeline is not None
    first, end = update_around(program, run.peak.birth)
    order = range(end - first)
    _stack_owners(axes, order, run.timeline.owned[first:end] / MIB)
    reserved = run.timeline.reserved[first:end] / MIB
    axes.plot(order, reserved, "k--", linewidth=1, label="reserved")
    highest = float(reserved.max())
    if limit_bytes is not None:
        highest = max(highest, _draw_limit(axes, limit_bytes, highest))
    axes.set(
        xlabel="allocations of one update, in program order",
        ylabel="memory (MiB)",
        xlim=(0, end - first),
    )
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    _mark_phases(axes, program, first, end)
    _mark_peak(axes, run, first, end)
    return highest


def _draw_limit(axes: Any, limit_bytes: int, highest: float) -> float:
    """The limit's MiB where it is drawn; 0 where it is so far above that it only is told."""
    limit, words = limit_bytes / MIB, f"limit, {mib(limit_bytes)} MiB"
    if limit > FAR * highest:
        axes.plot([], [], color=LIMIT_COLOUR, linewidth=2, label=f"{words}: above the picture")
        return 0.0
    axes.axhline(limit, color=LIMIT_COLOUR, linewidth=2, dashes=(6, 2), label=words)
    return limit


def _stack_owners(axes: Any, order: range, owned: Any) -> None:
    """Requested MiB (births, owners) as layers, told apart by grey and hatch."""
    shown = [(i, owner) for i, owner in enumerate(OWNERS) if owned[:, i].any()]
    layers = axes.stackplot(
        order,
        *(owned[:, i] for i, _ in shown),
        labels=[OWNER_TITLES[owner] for _, owner in shown],
        colors=[GREYS(0.08 + 0.1 * i) for i, _ in shown],
        edgecolor="black",
        linewidth=0.3,
    )
    for layer, (index, _) in zip(layers, shown, strict=True):
        layer.set_hatch(HATCHES[index])


def update_around(program: Program, birth: int) -> tuple[int, int]:
    """The births of the update (or the evaluation) in which `birth` lies."""
    spans = program.spans
    first = last = int(program.span_of[birth])
    while spans[last].phase not in ("update", "evaluate") and last + 1 < len(spans):
        last += 1
    while first and spans[first - 1].phase not in ("update", "evaluate", "setup"):
        first -= 1
    rows = np.flatnonzero((program.span_of >= first) & (program.span_of <= last))
    return int(rows[0]), int(rows[-1]) + 1


def _mark_phases(axes: Any, program: Program, first: int, end: int) -> None:
    """A line where a phase begins, and its name where there is room for it."""
    spans = program.span_of[first:end]
    starts = np.flatnonzero(np.diff(spans, prepend=-1)).tolist()
    for start, following in zip(starts, [*starts[1:], len(spans)], strict=True):
        axes.axvline(start, color="black", linewidth=0.5, alpha=0.6)
        phase = program.spans[spans[start]].phase
        if following - start > (0.008 + 0.008 * len(phase)) * len(spans):
            axes.text(start, 1.01, f" {phase}", transform=axes.get_xaxis_transform(), fontsize=8.5)


def _mark_peak(axes: Any, run: Replay, first: int, end: int) -> None:
    """A ring at the peak, and its label above all that is drawn."""
    owned = sum(run.peak.owned.values())
    peak = owned / MIB
    place = run.peak.birth - first
    axes.plot([place], [peak], "o", color="black", markersize=7, fillstyle="none")
    axes.annotate(
        f"peak: {mib(owned)} MiB requested, {mib(run.reserved)} MiB reserved",
        (place, peak),
        xytext=(min(max(place / (end - first), 0.22), 0.78), 0.93),
        textcoords="axes fraction",
        ha="center",
        va="center",
        fontsize=9,
        bbox={"boxstyle": "round", "facecolor": "white"},
        arrowprops={"arrowstyle": "->", "shrinkB": 5},
    )
