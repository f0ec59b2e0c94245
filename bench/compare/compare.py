"""Predicted cells against those of a baseline: what is worse, better, missing or new. Pure.

Predictions are deterministic, so equality is the rule; a tolerance is for who wants one.
A cell that got better is reported too: the baseline is then stale.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from bench.compare.baseline import BaselineCell
from distill.base.units import MIB
from distill.report.tables import OWNER_TITLES, Row, as_markdown, as_text

PEAKS = ("reserved_bytes", "allocated_bytes", "requested_bytes")

Change = Literal["same", "worse", "better", "missing", "new"]


@dataclass(frozen=True)
class Difference:
    """One cell's change; `delta_bytes` is of reserved, or of whichever peak moved.

    `owner` is whose bytes grew most (shrank most, when the cell got better).
    """

    name: str
    change: Change
    delta_bytes: int = 0
    peak: str = ""
    owner: str = ""
    owner_delta_bytes: int = 0


def compare_cells(
    baseline: Sequence[BaselineCell],
    current: Sequence[BaselineCell],
    *,
    tolerance_percent: float = 0.0,
) -> list[Difference]:
    """Every cell of either side, in the baseline's order, new ones last."""
    now = {cell.name: cell for cell in current}
    then = {cell.name for cell in baseline}
    found = [
        _difference(cell, now[cell.name], tolerance_percent)
        if cell.name in now
        else Difference(cell.name, "missing")
        for cell in baseline
    ]
    return [*found, *(Difference(cell.name, "new") for cell in current if cell.name not in then)]


def exit_code(differences: Sequence[Difference]) -> int:
    """0 the same, 1 something worse or missing, 5 nothing worse but something better or new."""
    changes = {difference.change for difference in differences}
    if changes & {"worse", "missing"}:
        return 1
    return 5 if changes & {"better", "new"} else 0


def difference_rows(differences: Sequence[Difference]) -> list[Row]:
    """The changes, a row a cell; cells that did not change are left out."""
    return [
        {
            "cell": difference.name,
            "change": difference.change,
            "by MiB": f"{difference.delta_bytes / MIB:+,.2f}" if difference.peak else "–",
            "of": difference.peak.removesuffix("_bytes") or "–",
            "owner": OWNER_TITLES.get(difference.owner, "–"),
            "owner's MiB": f"{difference.owner_delta_bytes / MIB:+,.2f}"
            if difference.owner
            else "–",
        }
        for difference in differences
        if difference.change != "same"
    ]


def summary(differences: Sequence[Difference]) -> str:
    """Counts of the cells that are the same, worse, better, missing and new."""
    counts = {
        change: sum(d.change == change for d in differences)
        for change in ("same", "worse", "missing", "better", "new")
    }
    words = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    return f"{len(differences)} cells: {words}"


def compare_text(
    differences: Sequence[Difference], *, markdown: bool, as_json: bool, updated: bool = False
) -> str:
    """The comparison as a table for a terminal, as Markdown, or as one JSON document.

    `updated`: the baseline is written anew, so nothing is left to do about it.
    """
    rows = difference_rows(differences)
    if as_json:
        code = 0 if updated else exit_code(differences)
        document = {"exit_code": code, "cells": [asdict(d) for d in differences]}
        return json.dumps(document, indent=2)
    parts = [f"**Memory** · {summary(differences)}" if markdown else summary(differences)]
    if rows:
        parts += ["", as_markdown(rows) if markdown else as_text(rows)]
    cure = {1: "A change costs memory, or a cell is gone.", 5: "The baseline is stale."}
    code = exit_code(differences)
    if code and not updated:
        parts += ["", f"{cure[code]} If that is meant: bench compare --update."]
    return "\n".join(parts)


def _difference(before: BaselineCell, after: BaselineCell, tolerance_percent: float) -> Difference:
    moved = _moved(before, after, tolerance_percent)
    if moved is None:
        return Difference(before.name, "same")
    change, peak = moved
    sign = 1 if change == "worse" else -1
    owner, delta = _owner_that_moved(before.breakdown, after.breakdown, sign)
    return Difference(
        before.name, change, getattr(after, peak) - getattr(before, peak), peak, owner, delta
    )


def _moved(
    before: BaselineCell, after: BaselineCell, tolerance_percent: float
) -> tuple[Change, str] | None:
    """The first peak that grew beyond the tolerance, else the first that shrank beyond it."""
    for change, sign in (("worse", 1), ("better", -1)):
        for peak in PEAKS:
            old, new = getattr(before, peak), getattr(after, peak)
            if sign * (new - old) > old * tolerance_percent / 100:
                return change, peak  # type: ignore[return-value]
    return None


def _owner_that_moved(
    before: Mapping[str, int], after: Mapping[str, int], sign: int
) -> tuple[str, int]:
    """Whose bytes grew most (with -1: shrank most); nobody's where all stayed."""
    deltas = {owner: after.get(owner, 0) - before.get(owner, 0) for owner in OWNER_TITLES}
    owner = max(deltas, key=lambda name: sign * deltas[name])
    return (owner, deltas[owner]) if sign * deltas[owner] > 0 else ("", 0)
