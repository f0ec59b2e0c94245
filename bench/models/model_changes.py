"""What running blocks again, and half precision, save and cost each model. Pure.

A change is over the grid: from its lowest to its highest in all configurations that have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.models.compared_models import Comparison
from bench.models.model_claims import ModelClaims
from bench.models.model_figures import CellFigures, ModelFigures
from bench.probe.grid import CHECKPOINTING
from distill.base.units import MIB, mib, rate
from distill.report.tables import Row
from distill.spec.candidate import Checkpointing

AGAIN: Mapping[Checkpointing, str] = {0: "nothing", "cheap": "cheap", 1: "every block"}
"""What runs again in backward, in words."""


@dataclass(frozen=True, kw_only=True)
class ConfigurationChange:
    """One configuration against another: bytes saved, images a second gained."""

    saved_bytes: int
    saved_share: float
    gained_per_second: float
    times_as_fast: float


def change(before: CellFigures | None, after: CellFigures | None) -> ConfigurationChange | None:
    """The second against the first; `None` where one of them can't be."""
    if before is None or after is None:
        return None
    memory, then = before.reserved_bytes, after.reserved_bytes
    speed, later = before.images_per_second, after.images_per_second
    if not memory or then is None or not speed or later is None:
        return None
    return ConfigurationChange(
        saved_bytes=memory - then,
        saved_share=(memory - then) / memory,
        gained_per_second=later - speed,
        times_as_fast=later / speed,
    )


def checkpointing_rows(plan: Comparison, models: Sequence[ModelFigures]) -> list[Row]:
    """What each model saves and loses by running blocks again, over all precisions."""
    claims = ModelClaims()
    rows = [
        {"model": one.name, "run again": AGAIN[checkpointing]}
        | _loss_cells(
            [
                change(one.cell(precision, 0), one.cell(precision, checkpointing))
                for precision in plan.precisions
            ]
        )
        for one in models
        for checkpointing in CHECKPOINTING
        if checkpointing != 0
    ]
    claimed = {
        "model": "claimed",
        "run again": AGAIN[1],
        "saves MiB": "–",
        "saves": claims.share("effect.checkpointing.memory"),
        "fewer images/s": "–",
        "takes longer": claims.share("effect.checkpointing.time"),
    }
    return [*rows, claimed]


def precision_rows(plan: Comparison, models: Sequence[ModelFigures]) -> list[Row]:
    """What each model gains by half precision instead of fp32, over all checkpointing."""
    claims = ModelClaims()
    rows = [
        {"model": one.name, "precision": precision}
        | _gain_cells([change(one.cell("fp32", k), one.cell(precision, k)) for k in CHECKPOINTING])
        for one in models
        for precision in plan.precisions
        if precision != "fp32"
    ]
    claimed = {
        "model": "claimed",
        "precision": "fp16",
        "saves MiB": "–",
        "saves": claims.share("effect.amp.memory"),
        "more images/s": "–",
        "times as fast": f"{claims.value('effect.amp.speed') or 0:.2f}",
    }
    return [*rows, claimed]


def grid_rows(plan: Comparison, models: Sequence[ModelFigures]) -> list[Row]:
    """Every configuration: peak MiB and images a second, a column a precision."""
    return [
        {"model": one.name, "run again": AGAIN[checkpointing]}
        | {
            precision: _grid_cell(one.cell(precision, checkpointing), plan.limit_bytes)
            for precision in plan.precisions
        }
        for one in models
        for checkpointing in CHECKPOINTING
    ]


def _grid_cell(cell: CellFigures | None, limit_bytes: int) -> str:
    """Peak and speed; a cross where it does not fit."""
    if cell is None:
        return "–"
    cross = "×" if (cell.needed_bytes or 0) > limit_bytes else " "
    return f"{mib(cell.reserved_bytes)} {cross}{rate(cell.images_per_second):>6}/s"


def _loss_cells(changes: Sequence[ConfigurationChange | None]) -> Row:
    there = [one for one in changes if one is not None]
    return _saved(there) | {
        "fewer images/s": _range([-one.gained_per_second for one in there], rate),
        "takes longer": _range([1 / one.times_as_fast - 1 for one in there], _percent, " %"),
    }


def _gain_cells(changes: Sequence[ConfigurationChange | None]) -> Row:
    there = [one for one in changes if one is not None]
    return _saved(there) | {
        "more images/s": _range([one.gained_per_second for one in there], rate),
        "times as fast": _range([one.times_as_fast for one in there], "{:.2f}".format),
    }


def _saved(changes: Sequence[ConfigurationChange]) -> Row:
    return {
        "saves MiB": _range([one.saved_bytes / MIB for one in changes], "{:,.0f}".format),
        "saves": _range([one.saved_share for one in changes], _percent, " %"),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _range(values: Sequence[float], text: Callable[[float], str], unit: str = "") -> str:
    """The lowest and the highest of some values, or the one that they are; a dash for none."""
    if not values:
        return "–"
    low, high = (_signed(value, text) for value in (min(values), max(values)))
    if low == high:
        return low + unit
    return f"{low} to {high}{unit}" if low.startswith("-") else f"{low}–{high}{unit}"


def _signed(value: float, text: Callable[[float], str]) -> str:
    """A number with its sign, and none where it is rounded to nothing."""
    plain = text(abs(value))
    return f"-{plain}" if value < 0 and plain.strip("0.,") else plain
