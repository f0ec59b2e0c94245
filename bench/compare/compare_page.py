"""A comparison as one HTML page that asks for nothing: the report's own page, with other parts."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.compare.baseline import BaselineCell
from bench.compare.compare import PEAKS, Difference
from bench.compare.compare_text import (
    Compared,
    difference_rows,
    environment,
    op_name,
    signed_mib,
    summary,
    verdict,
)
from bench.compare.limits import limit_rows, limits_verdict
from bench.report.page import check_places, write_page
from bench.report.parts import ReportPart, ReportTable, VerdictAnswer, WholeReport
from distill.base.units import bytes_text
from distill.report.tables import OWNER_TITLES, Row, exact_mib
from distill.spec.image_files import count_of

IN_DETAIL = 6
"""Cells whose owners and ops are shown, the worst first."""

UNFOLDED = 60
"""Rows of a table that stands open."""

SOURCE = "bench compare; every number is predicted"


def page_writer(path: Path) -> Callable[[Compared], str]:
    """A function that writes the page and says so. Raises `UserError` at once for a wrong place."""
    check_places(path, None)
    return partial(_write, path)


def _write(path: Path, found: Compared) -> str:
    size_bytes = write_page(path, compare_page(found))
    return f"Wrote {path} ({bytes_text(size_bytes)})."


def compare_page(found: Compared) -> WholeReport:
    """The verdict, what changed, the worst cells by owner and op, and every cell."""
    return WholeReport(
        title=f"Memory against the baseline: {found.after.recipe}, {found.after.target}",
        about=f"Made by bench compare, version {version('six-gig-distill')}.",
        verdict=[
            *_limits(found),
            VerdictAnswer(
                question="Does memory differ?",
                short=verdict(found),
                sentences=[f"{summary(found.differences)}."],
            ),
            VerdictAnswer(
                question="What is compared?",
                short="predictions, to the byte",
                sentences=[environment(found)],
            ),
        ],
        parts=[_changes(found), _details(found), _every_cell(found)],
    )


def _limits(found: Compared) -> list[VerdictAnswer]:
    if not found.limits:
        return []
    sentences = [
        f"{row['limit for']}: at most {row['MiB']} MiB; the largest is {row['in']} with "
        f"{row['largest MiB']} MiB, {row['above']} are above."
        for row in limit_rows(found.limits)
    ]
    short, _, said = limits_verdict(found.limits).partition(": ")
    return [
        VerdictAnswer(
            question="Are the limits kept?", short=short, sentences=[f"{said}.", *sentences]
        )
    ]


def _changes(found: Compared) -> ReportPart:
    title = "What changed"
    rows = difference_rows(found.changed)
    if not rows:
        return ReportPart(title=title, missing="No cell changed.")
    table = ReportTable(
        title="Cells that changed, the worst first",
        rows=rows,
        source=SOURCE,
        folded=len(rows) > UNFOLDED,
    )
    return ReportPart(title=title, tables=[table])


def _details(found: Compared) -> ReportPart:
    """The worst cells that both sides have, each by owner and by op."""
    title = "By owner and op"
    before = {cell.name: cell for cell in found.before.cells} if found.before else {}
    after = {cell.name: cell for cell in found.after.cells}
    both = [one for one in found.changed if one.name in before and one.name in after]
    if not both:
        return ReportPart(title=title, missing="No cell that both sides have changed.")
    tables = [
        table
        for one in both[:IN_DETAIL]
        for table in _detail(one, before[one.name], after[one.name])
    ]
    told = all(cell.ops is not None for cell in (before[both[0].name], after[both[0].name]))
    sentences = [f"What changed most: {count_of(len(both[:IN_DETAIL]), 'cell')}."]
    if not told:
        sentences.append("One side is of before ops were kept: bench compare --update.")
    return ReportPart(title=title, sentences=sentences, tables=tables)


def _detail(one: Difference, before: BaselineCell, after: BaselineCell) -> list[ReportTable]:
    owners = moved_rows(before.breakdown, after.breakdown, "owner")
    named = [row | {"owner": OWNER_TITLES.get(row["owner"], row["owner"])} for row in owners]
    known = before.ops is not None and after.ops is not None
    ops = moved_rows(_by_op(before.ops), _by_op(after.ops), "owner: op") if known else []
    titled = ((f"{one.name}: owners", named), (f"{one.name}: ops where most is requested", ops))
    return [ReportTable(title=title, rows=rows, source=SOURCE) for title, rows in titled if rows]


def moved_rows(before: Mapping[str, int], after: Mapping[str, int], what: str) -> list[Row]:
    """What has other bytes on the two sides, the larger changes first."""
    names = dict.fromkeys([*before, *after])
    moved = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return [
        {
            what: name,
            "before MiB": exact_mib(before.get(name, 0)),
            "after MiB": exact_mib(after.get(name, 0)),
            "change MiB": signed_mib(moved[name]),
        }
        for name in sorted(names, key=lambda name: -abs(moved[name]))
        if moved[name]
    ]


def _by_op(ops: Mapping[str, Mapping[str, int]] | None) -> dict[str, int]:
    return {
        f"{OWNER_TITLES.get(owner, owner)}: {op_name(op)}": size_bytes
        for owner, inside in (ops or {}).items()
        for op, size_bytes in inside.items()
    }


def _every_cell(found: Compared) -> ReportPart:
    before = {cell.name: cell for cell in found.before.cells} if found.before else {}
    changes = {one.name: one.change for one in found.differences}
    rows = [
        {"cell": cell.name, "change": changes[cell.name]}
        | {f"{peak.removesuffix('_bytes')} MiB": exact_mib(getattr(cell, peak)) for peak in PEAKS}
        | {
            f"{peak.removesuffix('_bytes')} before": exact_mib(getattr(before[cell.name], peak))
            if cell.name in before
            else "–"
            for peak in PEAKS
        }
        for cell in found.after.cells
    ]
    if not rows:
        return ReportPart(title="Every cell", missing="There is none.")
    table = ReportTable(title=f"All {len(rows):,} cells", rows=rows, source=SOURCE, folded=True)
    return ReportPart(title="Every cell", tables=[table])
