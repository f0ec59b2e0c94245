"""A difference as values, and as one JSON document whose schema is made from them. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.diff.pairs import DiffPair, Paired, candidate_changes, moved
from bench.diff.sides import DiffItem, DiffSide, SideKind
from distill.spec.profile import NumberSource


@dataclass(frozen=True, kw_only=True)
class OpRow:
    """Requested bytes of one op under one owner when most is requested, predicted for both."""

    owner: str
    op: str
    module: str
    a_bytes: int
    b_bytes: int


@dataclass(frozen=True, kw_only=True)
class DiffDetail:
    """What explains the difference of one pair, and what is to be known of it."""

    ops: Sequence[OpRow]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Two sides, what of them belongs together, and for a single pair what explains it."""

    a: DiffSide
    b: DiffSide
    found: Paired
    detail: DiffDetail | None = None


@dataclass(frozen=True, kw_only=True)
class SideDocument:
    """What one side is."""

    title: str
    kind: SideKind
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ItemDocument:
    """One configuration of a side; `None` is not known."""

    name: str
    source: NumberSource
    outcome: str
    reserved_bytes: int | None
    allocated_bytes: int | None
    requested_bytes: int | None
    images_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class PairDocument:
    """Two configurations; `owners` has the bytes that B has beyond A, where they differ."""

    a: ItemDocument
    b: ItemDocument
    change_bytes: int | None
    same: bool
    owners: dict[str, int]
    settings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DiffDocument:
    """`bench diff --json`. `ops` and `notes` are there for a single pair."""

    a: SideDocument
    b: SideDocument
    pairs: tuple[PairDocument, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    ops: tuple[OpRow, ...]
    notes: tuple[str, ...]


def diff_json(one: Differences) -> str:
    """One JSON document with every pair and every op."""
    detail = one.detail or DiffDetail(ops=())
    document = DiffDocument(
        a=_side(one.a),
        b=_side(one.b),
        pairs=tuple(_pair(pair) for pair in one.found.pairs),
        only_a=tuple(item.name for item in one.found.only_a),
        only_b=tuple(item.name for item in one.found.only_b),
        ops=tuple(detail.ops),
        notes=tuple(detail.notes),
    )
    return json.dumps(asdict(document), indent=2)


def _side(side: DiffSide) -> SideDocument:
    return SideDocument(title=side.title, kind=side.kind, environment=dict(side.environment))


def _pair(pair: DiffPair) -> PairDocument:
    a, b = pair.a.candidate, pair.b.candidate
    return PairDocument(
        a=_item(pair.a),
        b=_item(pair.b),
        change_bytes=pair.change_bytes,
        same=pair.is_same,
        owners=moved(pair.a.breakdown, pair.b.breakdown) if pair.owners else {},
        settings=() if a is None or b is None else tuple(candidate_changes(a, b)),
    )


def _item(item: DiffItem) -> ItemDocument:
    return ItemDocument(
        name=item.name,
        source=item.source,
        outcome=item.outcome,
        reserved_bytes=item.reserved_bytes,
        allocated_bytes=item.allocated_bytes,
        requested_bytes=item.requested_bytes,
        images_per_second=item.images_per_second,
    )
