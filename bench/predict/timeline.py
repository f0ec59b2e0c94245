"""The timeline of one update as a picture: whose bytes, phase by phase, up to the peak."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.simulate.program.program import Program
from bench.simulate.replay import Replay
from distill.base.units import MIB
from distill.report.figure import GREYS, HATCHES, new_figure, save
from distill.report.tables import OWNER_TITLES
from distill.spec.file_values import OWNERS


def draw_timeline(
    path: Path, program: Program, run: Replay, limit_bytes: int | None, title: str
) -> None:
    """One update in program order: requested MiB stacked by owner, reserved above.

    The update is the one that holds the peak; its phases are marked.
    """
    assert run.timeline is not None
    first, end = _update_around(program, run.peak.birth)
    figure = new_figure(10, 4.8)
    axes = figure.subplots()
    order = range(end - first)
    _stack_owners(axes, order, run.timeline.owned[first:end] / MIB)
    reserved = run.timeline.reserved[first:end] / MIB
    axes.plot(order, reserved, "k--", linewidth=1, label="reserved")
    if limit_bytes is not None:
        axes.axhline(limit_bytes / MIB, color="red", linewidth=2, label="limit")
    axes.set(
        xlabel="allocations of one update, in program order",
        ylabel="MiB",
        xlim=(0, end - first),
        ylim=(0, 1.2 * max(reserved.max(), (limit_bytes or 0) / MIB)),
    )
    axes.set_title(title, fontsize=11)
    _mark_phases(axes, program, first, end)
    _mark_peak(axes, run, first)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    save(path, figure)


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


def _update_around(program: Program, birth: int) -> tuple[int, int]:
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
    top = axes.get_ylim()[1]
    for start, following in zip(starts, [*starts[1:], len(spans)], strict=True):
        axes.axvline(start, color="black", linewidth=0.5, alpha=0.6)
        if following - start > 0.02 * len(spans):
            phase = program.spans[spans[start]].phase
            axes.text(start, top, f" {phase}", fontsize=8, va="top")


def _mark_peak(axes: Any, run: Replay, first: int) -> None:
    peak = sum(run.peak.owned.values()) / MIB
    height = min(0.8, peak / axes.get_ylim()[1] + 0.15)
    axes.annotate(
        f"peak: {peak:,.0f} MiB requested,\n{run.reserved / MIB:,.0f} MiB reserved",
        (run.peak.birth - first, peak),
        xytext=(0.42, height),
        textcoords="axes fraction",
        fontsize=8,
        bbox={"boxstyle": "round", "facecolor": "white"},
        arrowprops={"arrowstyle": "->"},
    )
