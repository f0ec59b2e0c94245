"""Pictures of what was probed. Labelled with units, readable in grey, drawn the same each time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.probe.grid import MICRO_BATCHES, label
from bench.probe.grid_tables import by_stage
from bench.simulate.program.program import OWNERS, Program
from bench.simulate.replay import Replay
from bench.trials import Trial
from distill.base.errors import UserError
from distill.base.files import write_whole
from distill.base.units import MIB
from distill.report.tables import OWNER_TITLES
from distill.spec.profile import Budget, Choice

HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--", "")


def check_picture(path: Path) -> None:
    """Refuse a path that no picture can be written to, before anything is computed for it."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(f"{path} is no picture's name: it must end in .png.")


def draw_heatmap(path: Path, trials: Sequence[Trial], budget: Budget, title: str) -> None:
    """Peak reserved MiB by micro-batch and configuration, a panel a stage; the limit as a line."""
    plt = pyplot()
    stages = by_stage(t for t in trials if t.candidate.micro_batch in MICRO_BATCHES)
    figure, axes = plt.subplots(
        1, len(stages), figsize=(4.2 * len(stages), 4.6), layout="constrained", squeeze=False
    )
    for panel, (stage, mine) in zip(axes[0], stages.items(), strict=True):
        _heatmap_panel(panel, mine, budget)
        panel.set_title(stage, fontsize=10)
    figure.suptitle(title, fontsize=11)
    save(path, figure)


def _heatmap_panel(axes: Any, trials: Sequence[Trial], budget: Budget) -> None:
    batches = sorted({t.candidate.micro_batch for t in trials})
    order = ("fp32", "fp32+ckpt", "fp16", "fp16+ckpt", "bf16", "bf16+ckpt")
    columns = [name for name in order if any(label(t.candidate) == name for t in trials)]
    share = [[float("nan")] * len(columns) for _ in batches]
    for trial in trials:
        if trial.reading is None or trial.reading.safe_bytes is None:
            continue
        row, column = (
            batches.index(trial.candidate.micro_batch),
            columns.index(label(trial.candidate)),
        )
        share[row][column] = trial.reading.safe_bytes / budget.limit_bytes
        fits = share[row][column] <= 1
        axes.text(
            column,
            row,
            f"{(trial.reading.reserved_bytes or 0) / MIB:,.0f}",
            ha="center",
            va="center",
            fontsize=6.5,
            color="black" if fits else "white",
        )
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1.5, aspect="auto", origin="lower")
    _draw_limit(axes, share)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(batches)), [str(batch) for batch in batches], fontsize=8)
    axes.set_ylabel("micro-batch (images)", fontsize=8)
    axes.set_xlabel(
        f"peak reserved, MiB; line: limit {budget.limit_bytes / MIB:,.0f} MiB", fontsize=8
    )


def _draw_limit(axes: Any, share: list[list[float]]) -> None:
    """A line between what fits and what does not."""
    previous = None
    for column in range(len(share[0])):
        height = sum(row[column] <= 1 for row in share) - 0.5
        axes.plot([column - 0.5, column + 0.5], [height, height], color="red", linewidth=2)
        if previous is not None and previous != height:
            axes.plot([column - 0.5] * 2, [previous, height], color="red", linewidth=2)
        previous = height


def draw_breakdown(path: Path, choices: Sequence[Choice], budget: Budget, title: str) -> None:
    """Who owns each byte at the peak of the chosen configurations, stacked, below the limit."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.75 * len(choices)), layout="constrained")
    greys = plt.get_cmap("Greys")
    names = [
        f"{choice.stage}\n{label(choice.candidate)}, {choice.candidate.micro_batch} images"
        for choice in choices
    ]
    left = [0.0] * len(choices)
    for index, (owner, words) in enumerate(OWNER_TITLES.items()):
        sizes = [choice.breakdown[owner] / MIB for choice in choices]
        axes.barh(
            names,
            sizes,
            left=left,
            label=words,
            height=0.6,
            edgecolor="black",
            linewidth=0.5,
            color=greys(0.08 + 0.09 * index),
            hatch=HATCHES[index],
        )
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    axes.axvline(budget.limit_bytes / MIB, color="red", linewidth=2)
    axes.annotate(
        "limit",
        (budget.limit_bytes / MIB, 1),
        xycoords=axes.get_xaxis_transform(),
        color="red",
        fontsize=8,
        ha="center",
        va="bottom",
    )
    axes.set_xlabel("reserved at the peak (MiB)")
    axes.set_title(title, fontsize=11)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    save(path, figure)


def draw_timeline(
    path: Path, program: Program, run: Replay, limit_bytes: int | None, title: str
) -> None:
    """One update in program order: requested MiB stacked by owner, reserved above.

    The update is the one that holds the peak; its phases are marked.
    """
    plt = pyplot()
    assert run.timeline is not None
    first, end = _update_around(program, run.peak.birth)
    figure, axes = plt.subplots(figsize=(10, 4.8), layout="constrained")
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
    greys = pyplot().get_cmap("Greys")
    shown = [(i, owner) for i, owner in enumerate(OWNERS) if owned[:, i].any()]
    layers = axes.stackplot(
        order,
        *(owned[:, i] for i, _ in shown),
        labels=[OWNER_TITLES[owner] for _, owner in shown],
        colors=[greys(0.08 + 0.1 * i) for i, _ in shown],
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


def pyplot() -> Any:
    """matplotlib without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(path: Path, figure: Any) -> None:
    """Write a figure whole and let it go."""
    write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=150))
    pyplot().close(figure)
