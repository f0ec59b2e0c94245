"""Predicted cells against those of a baseline: what is worse, better, missing or new. Pure.

Predictions are deterministic, so equality is the rule; a tolerance is for who wants one.
A cell that got better is reported too: the baseline is then stale.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.compare.baseline import BaselineCell

PEAKS = ("reserved_bytes", "allocated_bytes", "requested_bytes")

Change = Literal["same", "worse", "better", "missing", "new"]


@dataclass(frozen=True)
class Difference:
    """One cell's change; `delta_bytes` is of reserved, or of whichever peak moved.

    `owner` is whose bytes grew most (shrank most, when the cell got better), and `op` which of its
    ops did, where both sides tell. Slack has no op: of that it is the one that moved most of all.
    """

    name: str
    change: Change
    delta_bytes: int = 0
    peak: str = ""
    owner: str = ""
    owner_delta_bytes: int = 0
    op: str = ""
    op_delta_bytes: int = 0


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


ORDER: tuple[Change, ...] = ("worse", "missing", "new", "better", "same")
"""From what has to be looked at first to what need not be."""


def worst_first(differences: Sequence[Difference]) -> list[Difference]:
    """Cells by what became of them, and the larger changes first."""
    return sorted(differences, key=lambda d: (ORDER.index(d.change), -abs(d.delta_bytes)))


def _difference(before: BaselineCell, after: BaselineCell, tolerance_percent: float) -> Difference:
    moved = _moved(before, after, tolerance_percent)
    if moved is None:
        return Difference(before.name, "same")
    change, peak = moved
    sign = 1 if change == "worse" else -1
    owner, owner_delta = _most_moved(before.breakdown, after.breakdown, sign)
    op, op_delta = "", 0
    if owner and before.ops is not None and after.ops is not None:
        op, op_delta = _most_moved(_ops_of(before.ops, owner), _ops_of(after.ops, owner), sign)
    delta = getattr(after, peak) - getattr(before, peak)
    return Difference(before.name, change, delta, peak, owner, owner_delta, op, op_delta)


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


def _most_moved(before: Mapping[str, int], after: Mapping[str, int], sign: int) -> tuple[str, int]:
    """What grew most (with -1: shrank most), and by how much; nothing where all stayed."""
    names = dict.fromkeys([*before, *after])
    deltas = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    most = max(deltas, key=lambda name: sign * deltas[name], default="")
    return (most, deltas[most]) if most and sign * deltas[most] > 0 else ("", 0)


def _ops_of(ops: Mapping[str, Mapping[str, int]], owner: str) -> Mapping[str, int]:
    """An owner's bytes by op; of slack, which no op makes, all that is requested."""
    if owner in ops or owner != "allocator_slack":
        return ops.get(owner, {})
    pooled: Counter[str] = Counter()
    for inside in ops.values():
        pooled.update(inside)
    return pooled
