"""Pictures of a probed grid and its choices: peaks against the limit, and who owns each byte.

Labelled with units, readable in grey, drawn the same each time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from bench.probe.grid import MICRO_BATCHES
from bench.trials.trial import Trial, by_stage
from distill.base.units import MIB, mib, percent
from distill.report.figure import (
    FAR,
    GREYS,
    HATCHES,
    LIMIT_COLOUR,
    SHARES,
    contrasting,
    new_figure,
    plain_numbers,
    save,
)
from distill.report.tables import OWNER_TITLES
from distill.spec.candidate import PRECISIONS, Candidate
from distill.spec.profile import Budget, Choice

TOPS = (2, 5, 10, 20, 50, 100)
"""Percent of the budget at which the colour scale may end: small models are not all one colour."""

BEYOND: dict[str, Any] = {
    "facecolor": "#e8e8e8",
    "edgecolor": "#8a8a8a",
    "hatch": "////",
    "linewidth": 0,
}
"""How a configuration looks that does not fit."""


def draw_heatmap(
    path: Path, trials: Sequence[Trial], choices: Sequence[Choice], budget: Budget, title: str
) -> None:
    """Peak reserved memory as a share of the budget, a panel a stage; see `heatmap_figure`."""
    save(path, heatmap_figure(trials, choices, budget, title))


def heatmap_figure(
    trials: Sequence[Trial], choices: Sequence[Choice], budget: Budget, title: str
) -> Figure:
    """Share of the budget by micro-batch and configuration, in percent as in the printed table.

    One colour scale, up to the budget or to what the largest takes. What does not fit is hatched
    and a line parts it from the rest; the chosen configurations are framed.
    """
    shown = [trial for trial in trials if trial.candidate.micro_batch in MICRO_BATCHES]
    stages = by_stage(shown)
    columns = [len({trial.candidate.label for trial in mine}) for mine in stages.values()]
    width = 2.2 + sum(0.8 + 0.37 * count for count in columns)
    figure = new_figure(max(width, 7.5), 5)
    panels = figure.subplots(1, len(stages), squeeze=False, width_ratios=columns)[0]
    fitting = [_share(t, budget) or 0 for t in shown if t.outcome == "ok"]
    top = next((top for top in TOPS if top >= max(fitting, default=100)), 100)
    chosen = {choice.stage: choice for choice in choices}
    drawn = None
    for panel, (stage, mine) in zip(panels, stages.items(), strict=True):
        drawn = _heatmap_panel(panel, mine, budget, top)
        _ring(panel, mine, chosen.get(stage))
        panel.set_title(panel_title(mine[0].candidate), fontsize=9.5)
    panels[0].set_ylabel("micro-batch (images)", fontsize=9)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(panels), pad=0.01, fraction=0.03)
        bar.set_label(f"share of the budget, {mib(budget.limit_bytes)} MiB (%)", fontsize=9)
    signs = [
        Patch(label="does not fit", **BEYOND),
        Patch(facecolor="none", edgecolor=LIMIT_COLOUR, linewidth=2.5, label="limit"),
        Patch(facecolor="none", edgecolor="black", linewidth=2.5, label="chosen"),
    ]
    figure.legend(handles=signs, loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(f"Peak reserved memory, % of the budget: {title}", fontsize=11)
    return figure


def panel_title(candidate: Candidate) -> str:
    """The stage and its model, the shape on a line of its own."""
    return f"{candidate.stage}: {candidate.student.title}".replace(" (", "\n(")


def _share(trial: Trial, budget: Budget) -> float | None:
    """Percent of the budget that the reserved peak is, where there is one."""
    reading = trial.reading
    if reading is None or reading.reserved_bytes is None:
        return None
    return 100 * reading.reserved_bytes / budget.limit_bytes


def _heatmap_panel(axes: Any, trials: Sequence[Trial], budget: Budget, top: float) -> Any:
    """The cells of a stage; gives the drawn image, whose colours the bar explains."""
    batches, columns = _places(trials)
    shares = np.full((len(batches), len(columns)), np.nan)
    fits = np.zeros(shares.shape, dtype=bool)
    for trial in trials:
        place = batches.index(trial.candidate.micro_batch), columns.index(trial.candidate.label)
        share = _share(trial, budget)
        fits[place] = trial.outcome == "ok"
        if share is None:  # such a configuration can't be
            axes.text(place[1], place[0], "–", ha="center", va="center", fontsize=9.5)
        else:
            shares[place] = share
            _write_share(axes, place, share, top, fits=bool(fits[place]))
    drawn = axes.imshow(
        np.where(fits, shares, np.nan), cmap=SHARES, vmin=0, vmax=top, aspect="auto", origin="lower"
    )
    _draw_limit(axes, fits, ~fits & ~np.isnan(shares))
    axes.set_xticks(range(len(columns)), columns, rotation=50, ha="right", fontsize=9)
    axes.set_yticks(range(len(batches)), [str(batch) for batch in batches], fontsize=9)
    axes.tick_params(length=0)
    return drawn


def _places(trials: Sequence[Trial]) -> tuple[list[int], list[str]]:
    """Micro-batches from below, and configurations from the left."""
    batches = sorted({t.candidate.micro_batch for t in trials})
    ordered = sorted((t.candidate for t in trials), key=_kind)
    return batches, list(dict.fromkeys(candidate.label for candidate in ordered))


def _kind(candidate: Candidate) -> tuple[bool, int, int]:
    """The place of a candidate's column."""
    cached = candidate.teacher_logits == "cached"
    return cached, PRECISIONS.index(candidate.precision), candidate.checkpointing_order


def _write_share(
    axes: Any, place: tuple[int, int], share: float, top: float, *, fits: bool
) -> None:
    """A number on its cell: black or white by the cell's colour, black on a plate where hatched."""
    row, column = place
    text = f"{share:,.0f}" if share >= 1 or not fits else f"{share:.1f}"
    if not fits and round(share) <= 100:
        text = ">100"
    plate = None if fits else {"facecolor": "#e8e8e8", "edgecolor": "none", "pad": 0.8}
    colour = contrasting(SHARES(share / top)) if fits else "black"
    size = 9.5 if len(text) <= 3 else 7.5
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour, bbox=plate)


def _draw_limit(axes: Any, fits: NDArray[np.bool_], beyond: NDArray[np.bool_]) -> None:
    """Hatch what does not fit, and part it from what does."""
    for row, column in zip(*np.nonzero(beyond), strict=True):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, zorder=0.5, **BEYOND))
    line = {"color": LIMIT_COLOUR, "linewidth": 2.5, "solid_capstyle": "projecting"}
    above = fits[:-1] & beyond[1:] | beyond[:-1] & fits[1:]
    beside = fits[:, :-1] & beyond[:, 1:] | beyond[:, :-1] & fits[:, 1:]
    for row, column in zip(*np.nonzero(above), strict=True):
        axes.plot([column - 0.5, column + 0.5], [row + 0.5] * 2, **line)
    for row, column in zip(*np.nonzero(beside), strict=True):
        axes.plot([column + 0.5] * 2, [row - 0.5, row + 0.5], **line)


def _ring(axes: Any, trials: Sequence[Trial], choice: Choice | None) -> None:
    """A frame around the chosen cell, if it is one of these."""
    batches, columns = _places(trials)
    if choice is None:
        return
    candidate = choice.candidate
    if candidate.micro_batch in batches and candidate.label in columns:
        corner = columns.index(candidate.label) - 0.5, batches.index(candidate.micro_batch) - 0.5
        for colour, wide in (("white", 5.0), ("black", 2.5)):
            frame: dict[str, Any] = {
                "facecolor": "none",
                "edgecolor": colour,
                "linewidth": wide,
                "zorder": 5,
            }
            axes.add_patch(Rectangle(corner, 1, 1, clip_on=False, **frame))


def draw_breakdown(path: Path, choices: Sequence[Choice], budget: Budget, title: str) -> None:
    """Draw the bytes at the peak of each choice by owner, stacked, beside the limit."""
    save(path, breakdown_figure(choices, budget, title))


def breakdown_figure(choices: Sequence[Choice], budget: Budget, title: str) -> Figure:
    """MiB by owner, a bar a stage, with their sum and its share of the budget at the end."""
    figure = new_figure(9, 1.9 + 0.75 * len(choices))
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
    _mark_budget(axes, budget, max(left))
    _write_sums(axes, choices, budget)
    axes.set_xlabel(
        "reserved at the peak (MiB); at the end of a bar the sum and its share of the limit"
    )
    plain_numbers(axes.xaxis)
    figure.suptitle(f"Who owns the peak of each chosen configuration: {title}", fontsize=11)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


def _mark_budget(axes: Any, budget: Budget, longest: float) -> None:
    """The limit as a line with what lies beyond it hatched; where it is far away in words alone."""
    limit, words = budget.limit_bytes / MIB, f"limit {mib(budget.limit_bytes)} MiB"
    is_far = limit > FAR * longest
    axes.set_xlim(0, 1.3 * longest if is_far else max(1.15 * limit, 1.3 * longest))
    if not is_far:
        axes.axvline(limit, color=LIMIT_COLOUR, linewidth=2)
        axes.axvspan(limit, axes.get_xlim()[1], zorder=0, **BEYOND)
    axes.annotate(
        f"{words}: far beyond →" if is_far else words,
        (axes.get_xlim()[1] if is_far else limit, 1),
        xycoords=axes.get_xaxis_transform(),
        color=LIMIT_COLOUR,
        fontsize=8.5,
        ha="right" if is_far else "center",
        va="bottom",
    )


def _write_sums(axes: Any, choices: Sequence[Choice], budget: Budget) -> None:
    """The sum of a bar and its share of the limit at its end, or beyond the limit's line."""
    limit, (_, right) = budget.limit_bytes / MIB, axes.get_xlim()
    for row, choice in enumerate(choices):
        whole = sum(choice.breakdown.values())
        end = whole / MIB
        axes.annotate(
            f"{mib(whole)} MiB, {percent(whole, budget.limit_bytes)}",
            (limit if end < limit < end + 0.25 * right else end, row),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            zorder=3,
        )
