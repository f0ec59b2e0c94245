"""Pictures of a probed grid and its choices: peaks against the limit, and who owns each byte.

Labelled with units, readable in grey, drawn the same each time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.probe.grid import MICRO_BATCHES
from bench.trials import Trial, by_stage
from distill.base.units import MIB
from distill.report.figure import GREYS, HATCHES, new_figure, save
from distill.report.tables import OWNER_TITLES
from distill.spec.candidate import PRECISIONS, Candidate
from distill.spec.profile import Budget, Choice


def draw_heatmap(path: Path, trials: Sequence[Trial], budget: Budget, title: str) -> None:
    """Peak reserved MiB by micro-batch and configuration, a panel a stage; the limit as a line."""
    stages = by_stage(t for t in trials if t.candidate.micro_batch in MICRO_BATCHES)
    figure = new_figure(4.2 * len(stages), 4.6)
    axes = figure.subplots(1, len(stages), squeeze=False)
    for panel, (stage, mine) in zip(axes[0], stages.items(), strict=True):
        _heatmap_panel(panel, mine, budget)
        panel.set_title(stage, fontsize=10)
    figure.suptitle(title, fontsize=11)
    save(path, figure)


def _heatmap_panel(axes: Any, trials: Sequence[Trial], budget: Budget) -> None:
    batches = sorted({t.candidate.micro_batch for t in trials})
    columns = list(dict.fromkeys(c.label for c in sorted((t.candidate for t in trials), key=_kind)))
    share = [[float("nan")] * len(columns) for _ in batches]
    for trial in trials:
        if trial.reading is None or trial.reading.safe_bytes is None:
            continue
        row, column = (
            batches.index(trial.candidate.micro_batch),
            columns.index(trial.candidate.label),
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


def _kind(candidate: Candidate) -> tuple[int, int]:
    """The place of a candidate's column."""
    return PRECISIONS.index(candidate.precision), candidate.checkpointing_order


def _draw_limit(axes: Any, share: list[list[float]]) -> None:
    """A line between what fits and what does not."""
    previous = None
    for column in range(len(share[0])):
        fitting = [number for number, row in enumerate(share) if row[column] <= 1]
        height = max(fitting, default=-1) + 0.5
        axes.plot([column - 0.5, column + 0.5], [height, height], color="red", linewidth=2)
        if previous is not None and previous != height:
            axes.plot([column - 0.5] * 2, [previous, height], color="red", linewidth=2)
        previous = height


def draw_breakdown(path: Path, choices: Sequence[Choice], budget: Budget, title: str) -> None:
    """Draw the bytes at the peak of each choice by owner, stacked, beside the limit."""
    figure = new_figure(8, 1.2 + 0.75 * len(choices))
    axes = figure.subplots()
    names = [
        f"{choice.stage}\n{choice.candidate.label}, {choice.candidate.micro_batch} images"
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
            color=GREYS(0.08 + 0.09 * index),
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
