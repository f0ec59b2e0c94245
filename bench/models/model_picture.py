"""Memory against speed of the models as one picture: CNNs and ViTs are told apart in grey."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.models.compared_models import Comparison
from bench.models.model_changes import AGAIN
from bench.models.model_figures import ModelFigures, ModelKind
from bench.probe.grid import CHECKPOINTING
from distill.base.errors import UserError
from distill.base.units import MIB, mib
from distill.report.figure import LIMIT_COLOUR, check_picture, doublings, new_figure, save
from distill.spec.candidate import Checkpointing, Precision

MARKERS: dict[ModelKind, tuple[str, str]] = {
    "CNN": ("o", "black"),
    "ViT": ("s", "white"),
    "CNN and attention": ("D", "0.6"),
    "other": ("^", "0.6"),
}
"""Shape and filling."""

LINES: dict[Precision, Literal[":", "-"]] = {"fp32": ":", "fp16": "-", "bf16": "-"}
SIZES: dict[Checkpointing, int] = {0: 11, "cheap": 7, 1: 4}
"""Of markers, in points: the more of a block runs again, the smaller."""

Point = tuple[float, float, Checkpointing]
"""Images a second, MiB, what runs again."""


def picture_at(path: Path) -> Callable[[Comparison, Sequence[ModelFigures]], None]:
    """`draw_models` for a place, which is refused now if no picture can be written there."""
    check_picture(path)
    return partial(draw_models, path)


def draw_models(path: Path, plan: Comparison, models: Sequence[ModelFigures]) -> None:
    """Draw the models' configurations in fp32 and in the plan's precision.

    Raises `UserError` where there is none to draw.
    """
    save(path, models_figure(plan, models))


def models_figure(plan: Comparison, models: Sequence[ModelFigures]) -> Figure:
    """Peak reserved MiB against images/s, both in doublings, a line a model and precision."""
    figure = new_figure(8.4, 5.8)
    axes = figure.subplots()
    precisions = list(dict.fromkeys(("fp32", plan.precision)))
    lines = {(one.name, p): (one, _points(one, p)) for one in models for p in precisions}
    if not any(points for _, points in lines.values()):
        raise UserError("None of the models has a configuration that can be drawn.")
    for (_, precision), (one, points) in lines.items():
        _draw_line(axes, one, precision, points, is_named=precision == precisions[-1])
    _scale(axes, [point for _, points in lines.values() for point in points])
    _mark_limit(axes, plan.limit_bytes)
    axes.set_xlabel("images/s (predicted), faster to the right")
    axes.set_ylabel("peak reserved (MiB, predicted)")
    images = f"{plan.micro_batch} images an update"
    figure.suptitle(
        f"Memory against speed, {images}, for {plan.target.title}, predicted", fontsize=11
    )
    figure.legend(
        handles=_legend([one.kind for one in models], precisions),
        loc="outside lower center", ncols=4, fontsize=8.5,
    )  # fmt: skip
    return figure


def _points(model: ModelFigures, precision: Precision) -> list[Point]:
    cells = {k: model.cell(precision, k) for k in CHECKPOINTING}
    return [
        (cell.images_per_second, cell.reserved_bytes / MIB, k)
        for k, cell in cells.items()
        if cell is not None and cell.images_per_second and cell.reserved_bytes
    ]


def _draw_line(
    axes: Any, model: ModelFigures, precision: Precision, points: Sequence[Point], *, is_named: bool
) -> None:
    if not points:
        return
    shape, filling = MARKERS[model.kind]
    speeds, peaks = [p[0] for p in points], [p[1] for p in points]
    axes.plot(speeds, peaks, LINES[precision], color="0.35", linewidth=1.2, zorder=1)
    for speed, peak, again in points:
        axes.plot(
            [speed], [peak], shape, markersize=SIZES[again], markerfacecolor=filling,
            markeredgecolor="black", zorder=2,
        )  # fmt: skip
    if is_named:
        to_the_left = model.kind == "CNN"  # ViTs lie to the right of CNNs with as much memory
        axes.annotate(
            model.name, (speeds[0], peaks[0]), (-9 if to_the_left else 9, 6),
            textcoords="offset points", ha="right" if to_the_left else "left", fontsize=9.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=3,
        )  # fmt: skip


def _scale(axes: Any, points: Sequence[Point]) -> None:
    """Doublings on both axes, with room to the right for the names."""
    speeds, peaks = [p[0] for p in points], [p[1] for p in points]
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(0.8 * min(speeds), 1.6 * max(speeds))
    axes.set_ylim(0.8 * min(peaks), 1.3 * max(peaks))
    doublings(axes.xaxis)
    doublings(axes.yaxis)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _mark_limit(axes: Any, limit_bytes: int) -> None:
    """The limit as a line with its number, where it is near what is drawn; else its number."""
    bottom, top = axes.get_ylim()
    limit = limit_bytes / MIB
    words = f"limit {mib(limit_bytes)} MiB"
    if not bottom < limit < 1.6 * top:
        words += ", above the picture" if limit > top else ", below the picture"
        axes.annotate(words, (0.99, 0.98 if limit > top else 0.02), xycoords="axes fraction",
                      ha="right", va="top" if limit > top else "bottom", fontsize=8.5)  # fmt: skip
        return
    axes.set_ylim(bottom, max(top, 1.2 * limit))
    axes.axhspan(limit, axes.get_ylim()[1], facecolor="#f0f0f0", edgecolor="0.7", hatch="////",
                 linewidth=0, zorder=0)  # fmt: skip
    axes.axhline(limit, color=LIMIT_COLOUR, linewidth=1.5, zorder=0.5)
    axes.annotate(
        words, (0.99, limit), (0, -3), xycoords=axes.get_yaxis_transform(),
        textcoords="offset points", ha="right", va="top", color=LIMIT_COLOUR, fontsize=8.5,
    )  # fmt: skip


def _legend(kinds: Sequence[ModelKind], precisions: Sequence[Precision]) -> list[Line2D]:
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[kind][0], markersize=8,
               markerfacecolor=MARKERS[kind][1], markeredgecolor="black", label=kind)
        for kind in dict.fromkeys(kinds)
    ]  # fmt: skip
    lines = [Line2D([], [], linestyle=LINES[p], color="0.35", label=p) for p in precisions]
    again = [
        Line2D([], [], linestyle="", marker="o", markersize=size, markerfacecolor="0.6",
               markeredgecolor="black", label=f"{AGAIN[k]} run again")
        for k, size in SIZES.items()
    ]  # fmt: skip
    return [*marks, *lines, *again]
