"""The shapes of a timeline on a page. Values only: showing them loads neither torch nor numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 1000
"""Units of the drawing from no byte to its top."""


@dataclass(frozen=True, kw_only=True)
class OwnedShape:
    """An outline in units of the drawing, its owner, and whose bytes it is."""

    owner: str
    path: str
    words: str


@dataclass(frozen=True, kw_only=True)
class PhaseSpan:
    """A phase of the update and its share of the drawing's width, in percent."""

    name: str
    percent: float


@dataclass(frozen=True, kw_only=True)
class OwnedOwner:
    """An owner of bytes and what it has when most is requested."""

    owner: str
    title: str
    peak_mib: str


@dataclass(frozen=True, kw_only=True)
class OwnedTimeline:
    """One update of a stage. Heights are in units of `HEIGHT`; `columns` is the width."""

    title: str
    source: str
    columns: int
    shapes: Sequence[OwnedShape]
    reserved: str
    limit: float
    phases: Sequence[PhaseSpan]
    owners: Sequence[OwnedOwner]
    top_mib: str
    limit_mib: str
    reserved_mib: str
    peak_percent: float
