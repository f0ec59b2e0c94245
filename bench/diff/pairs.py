"""The items of two sides, matched in pairs, and how the two of a pair differ. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.diff.sides import DiffItem, DiffSide
from distill.base.errors import UserError
from distill.base.nearest import did_you_mean
from distill.spec.candidate import Candidate


@dataclass(frozen=True)
class DiffPair:
    """Two configurations that are held against each other."""

    a: DiffItem
    b: DiffItem

    @property
    def change_bytes(self) -> int | None:
        """Reserved bytes that B needs beyond A; `None` where one of them is not known."""
        if self.a.reserved_bytes is None or self.b.reserved_bytes is None:
            return None
        return self.b.reserved_bytes - self.a.reserved_bytes

    @property
    def is_same(self) -> bool:
        """True if nothing of memory differs."""
        peaks = ("reserved_bytes", "allocated_bytes", "requested_bytes", "outcome")
        for name in peaks:
            one, other = getattr(self.a, name), getattr(self.b, name)
            if one is not None and other is not None and one != other:
                return False
        return not self.owners

    @property
    def owners(self) -> dict[str, int]:
        """Bytes by owner that B has beyond A, where both tell and they differ."""
        if not self.a.breakdown or not self.b.breakdown:
            return {}
        return moved(self.a.breakdown, self.b.breakdown)

    @property
    def name(self) -> str:
        """The name of both, or that of each."""
        return self.a.name if self.a.name == self.b.name else f"{self.a.name} → {self.b.name}"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The pairs of two sides, the largest change first, and what only one of them has."""

    pairs: Sequence[DiffPair]
    only_a: Sequence[DiffItem]
    only_b: Sequence[DiffItem]


def moved(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """What differs between two counts of bytes, the larger changes first."""
    names = dict.fromkeys([*a, *b])
    deltas = {name: b.get(name, 0) - a.get(name, 0) for name in names}
    changed = {name: delta for name, delta in deltas.items() if delta}
    return dict(sorted(changed.items(), key=lambda one: -abs(one[1])))


def paired(a: DiffSide, b: DiffSide, cell: str | None = None) -> Paired:
    """The configurations of both that belong together.

    Two that stand alone do; two profiles' are matched by stage, others by name, and a measured one
    with a measured one where there is one. With `cell` only those of that name or stage are left.
    """
    if len(a.items) == len(b.items) == 1:
        found = Paired(pairs=[DiffPair(a.items[0], b.items[0])], only_a=(), only_b=())
    else:
        found = _matched(a, b, by_stage=_is_by_stage(a, b))
    return found if cell is None else _chosen(found, cell)


def candidate_changes(a: Candidate, b: Candidate) -> list[str]:
    """Every value in which two candidates differ, in words."""
    return list(_changes(asdict(a), asdict(b)))


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """The differences of two documents; a part that only one has is told by its name alone."""
    for key, one in a.items():
        name, other = place + key.replace("_", " "), b[key]
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, f"{name} ")
        elif one != other:
            yield f"{name} {_word(one)} → {_word(other)}"


def _is_by_stage(a: DiffSide, b: DiffSide) -> bool:
    """True if each side has at most one configuration a stage, and the names say less."""
    sides = [[item.stage for item in side.items] for side in (a, b)]
    return all(len(set(stages)) == len(stages) for stages in sides)


def _matched(a: DiffSide, b: DiffSide, *, by_stage: bool) -> Paired:
    def key(item: DiffItem) -> str:
        return item.stage if by_stage else item.name

    left: dict[str, list[DiffItem]] = defaultdict(list)
    for item in b.items:
        left[key(item)].append(item)
    pairs, only_a = [], []
    for item in a.items:
        fitting = left[key(item)]
        if not fitting:
            only_a.append(item)
            continue
        place = min(range(len(fitting)), key=lambda n: _unlike(item, fitting[n]))
        pairs.append(DiffPair(item, fitting.pop(place)))
    pairs.sort(key=lambda pair: (pair.is_same, -abs(pair.change_bytes or 0)))
    return Paired(pairs=pairs, only_a=only_a, only_b=[o for some in left.values() for o in some])


def _unlike(item: DiffItem, other: DiffItem) -> tuple[bool, bool]:
    """What of two items of one name is not the same: the source of their numbers, the candidate."""
    return item.source != other.source, item.candidate != other.candidate


def _chosen(found: Paired, cell: str) -> Paired:
    """The pairs of that name, or of that stage. Raises `UserError` where there is none."""

    def of(item: DiffItem) -> bool:
        return cell in (item.name, item.stage)

    kept = [pair for pair in found.pairs if of(pair.a) or of(pair.b)]
    if not kept:
        items = [item for pair in found.pairs for item in (pair.a, pair.b)]
        known = sorted({name for item in items for name in (item.name, item.stage)})
        if not known:
            raise UserError("No configuration is on both sides, so --cell has none to choose.")
        raise UserError(
            f"No configuration {cell} is on both sides.{did_you_mean(cell, known)} "
            "Without --cell all are listed."
        )
    return Paired(pairs=kept, only_a=(), only_b=())


def _word(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name", "given"))
    return "–" if value is None else str(value)
