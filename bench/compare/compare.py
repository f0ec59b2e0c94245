"""Memory regression: predicted cells against a committed baseline. Pure.

Predictions are deterministic, so equality is the rule; a tolerance is for who wants one.
A cell that got better is reported too: the baseline is then stale.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from distill.base.errors import UserError
from distill.base.files import write_json
from distill.base.units import MIB
from distill.report.tables import OWNER_TITLES, Row, as_markdown, as_text
from distill.spec.profile import Bytes
from distill.spec.recipe import first_problem

SCHEMA = 1
PEAKS = ("reserved_bytes", "allocated_bytes", "requested_bytes")

MAKE_AGAIN = "Make it again: delete it, then bench compare --update."

Change = Literal["same", "worse", "better", "missing", "new"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One predicted configuration by name, with its peaks and who owns the reserved one."""

    name: str
    requested_bytes: Bytes
    allocated_bytes: Bytes
    reserved_bytes: Bytes
    breakdown: dict[str, Bytes]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Cells and what they were predicted for."""

    schema: int
    torch: str
    timm: str
    target: str
    recipe: str
    allocator: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Difference:
    """What became of one cell; `delta_bytes` is of reserved, or of whichever peak moved.

    `owner` is whose bytes grew most (shrank most, when the cell got better).
    """

    name: str
    change: Change
    delta_bytes: int = 0
    peak: str = ""
    owner: str = ""
    owner_delta_bytes: int = 0


def compare(
    baseline: Sequence[Cell], current: Sequence[Cell], *, tolerance_percent: float = 0.0
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


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises `UserError` for what is none, or one of other versions."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"Cannot read baseline {path} ({error.strerror}). Make one: bench compare --update."
        ) from error
    except ValueError as error:
        raise UserError(f"Baseline {path} is not JSON: {error}.") from error
    try:
        baseline = TypeAdapter(Baseline).validate_python(document)
    except ValidationError as error:
        raise UserError(f"Baseline {path}: {first_problem(error)} {MAKE_AGAIN}") from error
    if baseline.schema != SCHEMA:
        raise UserError(f"Baseline {path} has schema {baseline.schema}, not {SCHEMA}. {MAKE_AGAIN}")
    twice = [name for name, n in Counter(cell.name for cell in baseline.cells).items() if n > 1]
    if twice:
        raise UserError(f"Baseline {path} has cell {twice[0]!r} more than once. {MAKE_AGAIN}")
    return baseline


def check_question(baseline: Baseline, path: Path, *, target: str, recipe: str) -> None:
    """Bytes of another card or of other models are not comparable, nor is a baseline to be lost."""
    there = {"target": baseline.target, "recipe": baseline.recipe}
    here = {"target": target, "recipe": recipe}
    if here != there:
        raise UserError(
            f"Baseline {path} is for {_versions(there)}, asked is for {_versions(here)}. "
            "Name another baseline file; bench compare FILE --update makes one."
        )


def check_versions(baseline: Baseline, path: Path) -> None:
    """Bytes of other releases are not comparable."""
    here = {"torch": version("torch"), "timm": version("timm")}
    there = {"torch": baseline.torch, "timm": baseline.timm}
    if here != there:
        raise UserError(
            f"Baseline {path} was made with {_versions(there)}, here is {_versions(here)}. "
            "Install what it was made with, or accept these numbers: bench compare --update."
        )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline whole."""
    write_json(path, asdict(baseline))


def difference_rows(differences: Sequence[Difference]) -> list[Row]:
    """What changed, a row a cell; cells that did not are left out."""
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
    """How many cells are the same, worse, better, missing, new."""
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


def _difference(before: Cell, after: Cell, tolerance_percent: float) -> Difference:
    moved = _moved(before, after, tolerance_percent)
    if moved is None:
        return Difference(before.name, "same")
    change, peak = moved
    sign = 1 if change == "worse" else -1
    owner, delta = _owner_that_moved(before.breakdown, after.breakdown, sign)
    return Difference(
        before.name, change, getattr(after, peak) - getattr(before, peak), peak, owner, delta
    )


def _moved(before: Cell, after: Cell, tolerance_percent: float) -> tuple[Change, str] | None:
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


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
