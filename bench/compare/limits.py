"""Limits of reserved memory that a user sets for cells, and which cells are above theirs. Pure.

A limit holds for cells by name: for those of a stage (`teacher`), of a stage's configuration
(`teacher/fp16`), of a pattern (`*/bf16*/8x*`), or for every cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.compare.baseline import MOST_NAME, BaselineCell
from bench.predict.limit_text import limit_in_bytes
from distill.base.errors import UserError
from distill.base.nearest import did_you_mean
from distill.base.units import bytes_text, mib
from distill.report.tables import Row

EVERY = "*"

MOST_LIMITS = 40

OVER_EXIT_CODE = 4
"""What `bench predict` ends with, too, where a configuration does not fit."""


@dataclass(frozen=True)
class MemoryLimit:
    """At most so many reserved bytes in each cell whose name `cells` begins or matches."""

    cells: str
    limit_bytes: int

    def holds_for(self, name: str) -> bool:
        """True for a cell of this stage, configuration or pattern."""
        return name.startswith(f"{self.cells}/") or fnmatchcase(name, self.cells)


@dataclass(frozen=True, kw_only=True)
class LimitCheck:
    """A limit held against today's cells: the largest of them, and how many are above."""

    cells: str
    limit_bytes: int
    largest_cell: str
    largest_bytes: int
    cell_count: int
    over_count: int


def read_limits(texts: Sequence[str]) -> list[MemoryLimit]:
    """The limits of a command line. Raises `UserError` for what is none, and for too many."""
    if len(texts) > MOST_LIMITS:
        raise UserError(f"{len(texts)} limits are more than {MOST_LIMITS}. Use patterns.")
    return [read_limit(text) for text in texts]


def read_limit(text: str) -> MemoryLimit:
    """`[CELLS=]SIZE`, such as `5 GiB` or `teacher/fp16=4.5 GiB`. Raises `UserError` for others."""
    cells, given, size = text.rpartition("=")
    if given and not cells.strip():
        raise UserError(f'{text!r} names no cells. Give a limit such as "teacher=5 GiB".')
    return MemoryLimit(cells.strip() if given else EVERY, limit_in_bytes(size.strip()))


def check_limits(
    limits: Sequence[MemoryLimit], cells: Sequence[BaselineCell]
) -> tuple[LimitCheck, ...]:
    """Each limit with its cells. Raises `UserError` for one that holds for no cell."""
    return tuple(_checked(limit, cells) for limit in limits)


def limits_verdict(checks: Sequence[LimitCheck]) -> str:
    """Whether all cells keep their limits, with the one that is furthest above, or nearest to."""
    worst = max(checks, key=lambda one: one.largest_bytes - one.limit_bytes)
    above = worst.largest_bytes - worst.limit_bytes
    limit = f"a limit of {bytes_text(worst.limit_bytes)}"
    said = f"{worst.largest_cell[:MOST_NAME]} takes {bytes_text(worst.largest_bytes)} of {limit}"
    if above <= 0:
        return f"within limits: {said}, {bytes_text(-above)} are left"
    return f"over the limit: {said}, {bytes_text(above)} too much"


def limit_rows(checks: Sequence[LimitCheck]) -> list[Row]:
    """A row a limit: what it is, for which cells, and the largest of them."""
    return [
        {
            "limit for": "every cell" if one.cells == EVERY else one.cells[:MOST_NAME],
            "MiB": mib(one.limit_bytes),
            "largest MiB": mib(one.largest_bytes),
            "in": one.largest_cell[:MOST_NAME],
            "above": f"{one.over_count:,} of {one.cell_count:,}",
        }
        for one in checks
    ]


def over_limit(checks: Sequence[LimitCheck]) -> bool:
    """True where a cell is above its limit."""
    return any(one.over_count for one in checks)


def _checked(limit: MemoryLimit, cells: Sequence[BaselineCell]) -> LimitCheck:
    held = [cell for cell in cells if limit.holds_for(cell.name)]
    if not held:
        names = dict.fromkeys(
            part
            for cell in cells
            for part in (cell.name.split("/")[0], cell.name.rpartition("/")[0], cell.name)
        )
        raise UserError(
            f"No cell is called {limit.cells!r}, so its limit would hold for nothing."
            f"{did_you_mean(limit.cells, names)} bench compare --json lists all cells."
        )
    largest = max(held, key=lambda cell: cell.reserved_bytes)
    return LimitCheck(
        cells=limit.cells,
        limit_bytes=limit.limit_bytes,
        largest_cell=largest.name,
        largest_bytes=largest.reserved_bytes,
        cell_count=len(held),
        over_count=sum(cell.reserved_bytes > limit.limit_bytes for cell in held),
    )
