"""The bytes of one update, each under its owner: blocks stacked over time, as shapes. Pure.

Every block that is large enough to be seen is a shape of its own with its op and module; the
others of an owner are one shape together.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.predict.timeline import update_around
from bench.report.timeline_shapes import (
    HEIGHT,
    OwnedOwner,
    OwnedShape,
    OwnedTimeline,
    PhaseSpan,
)
from bench.simulate.program.program import NEVER, Ints, Program
from bench.simulate.replay import Replay
from distill.base.units import MIB, mib
from distill.report.tables import OWNER_TITLES, exact_mib
from distill.spec.file_values import OWNERS

COLUMNS = 240
"""Places in time that are drawn: of each stretch of allocations the one with most bytes."""

SEEN = 400
"""A block is a shape of its own from this part of the reserved peak on."""


def owned_timeline(
    program: Program, run: Replay, limit_bytes: int, title: str, source: str
) -> OwnedTimeline:
    """The update that holds the peak. The replay has to have kept its timeline."""
    assert run.timeline is not None
    first, end = update_around(program, run.peak.birth)
    owned = run.timeline.owned
    places = _places(owned, first, end, run.peak.birth)
    reserved = run.timeline.reserved[places]
    top = 1.05 * max(limit_bytes if limit_bytes < 3 * reserved.max() else 0, reserved.max())
    scale = HEIGHT / top
    seen = reserved.max() / SEEN
    shapes = list(_shapes(program, run.peak.sizes, places, scale, seen))
    return OwnedTimeline(
        title=title,
        source=source,
        columns=len(places),
        shapes=shapes,
        reserved=_line(HEIGHT - np.rint(reserved * scale).astype(int)),
        limit=HEIGHT - limit_bytes * scale,
        phases=_phases(program, places),
        owners=[
            OwnedOwner(
                owner=owner, title=OWNER_TITLES[owner], peak_mib=exact_mib(run.peak.owned[owner])
            )
            for index, owner in enumerate(OWNERS)
            if owned[places, index].any()
        ],
        top_mib=mib(top),
        limit_mib=mib(limit_bytes),
        reserved_mib=mib(int(reserved.max())),
        peak_percent=100 * int(np.searchsorted(places, run.peak.birth)) / len(places),
    )


def _places(owned: Ints, first: int, end: int, peak: int) -> Ints:
    """Births to draw: the fullest of each stretch, and so the peak."""
    whole = owned[first:end].sum(axis=1)
    bounds = np.unique(np.linspace(0, end - first, COLUMNS + 1).astype(int))
    stretches = pairwise(bounds.tolist())
    places = [first + begin + int(whole[begin:after].argmax()) for begin, after in stretches]
    column = int(np.searchsorted(bounds, peak - first, side="right")) - 1
    places[column] = peak
    return np.array(places)


def _shapes(
    program: Program, sizes: Ints, places: Ints, scale: float, least: float
) -> Iterator[OwnedShape]:
    """Every owner's shapes from the bottom up: what is too small to be seen, then its blocks."""
    begin = np.searchsorted(places, np.arange(len(program)))
    end = np.where(
        program.death == NEVER, len(places), np.searchsorted(places, program.death, side="left")
    )
    there = (end > begin) & (sizes > 0)
    seen = there & (sizes >= least)
    height = np.zeros(len(places))
    for index, owner in enumerate(OWNERS):
        mine = program.owner_of == index
        small = np.flatnonzero(mine & there & ~seen)
        yield from _together(small, sizes, begin, end, height, scale, owner)
        for birth in np.flatnonzero(mine & seen):
            span = slice(int(begin[birth]), int(end[birth]))
            bottom = height[span].copy()
            height[span] += sizes[birth]
            path = _outline(span.start, bottom * scale, height[span] * scale)
            yield OwnedShape(owner=owner, path=path, words=_words(program, sizes, int(birth)))


def _together(
    small: Ints, sizes: Ints, begin: Ints, end: Ints, height: NDArray[np.float64],
    scale: float, owner: str,
) -> Iterator[OwnedShape]:  # fmt: skip
    """One shape for all that is too small to be seen."""
    change = np.zeros(len(height) + 1)
    np.add.at(change, begin[small], sizes[small])
    np.add.at(change, end[small], -sizes[small])
    more = np.cumsum(change)[:-1]
    if more.any():
        bottom = height.copy()
        height += more
        words = (
            f"{OWNER_TITLES[owner]}: {len(small):,} small blocks, together up to "
            f"{exact_mib(int(more.max()))} MiB"
        )
        yield OwnedShape(owner=owner, path=_outline(0, bottom * scale, height * scale), words=words)


def _words(program: Program, sizes: Ints, birth: int) -> str:
    module = str(program.module[birth]) or "no module"
    op = str(program.op[birth]).removeprefix("aten.")
    owner = OWNER_TITLES[OWNERS[program.owner_of[birth]]]
    return f"{sizes[birth] / MIB:,.2f} MiB of {owner}: {op} in {module}"


def _outline(start: int, bottom: NDArray[np.float64], above: NDArray[np.float64]) -> str:
    """A closed path: along the top from left to right, and back along the bottom."""
    tops = (HEIGHT - np.rint(above)).astype(int).tolist()
    bottoms = (HEIGHT - np.rint(bottom)).astype(int).tolist()
    words = [f"M{start} {bottoms[0]}V{tops[0]}"]
    for column in range(1, len(tops)):
        if tops[column] != tops[column - 1]:
            words.append(f"H{start + column}V{tops[column]}")
    words.append(f"H{start + len(tops)}V{bottoms[-1]}")
    for column in range(len(bottoms) - 1, 0, -1):
        if bottoms[column] != bottoms[column - 1]:
            words.append(f"H{start + column}V{bottoms[column - 1]}")
    return "".join(words) + "Z"


def _line(heights: NDArray[np.int64]) -> str:
    """A line of steps."""
    words = [f"M0 {heights[0]}"]
    for column in range(1, len(heights)):
        if heights[column] != heights[column - 1]:
            words.append(f"H{column}V{heights[column]}")
    return "".join([*words, f"H{len(heights)}"])


def _phases(program: Program, places: Ints) -> list[PhaseSpan]:
    """The phases in their order, each with its share of the width."""
    spans = program.span_of[places]
    starts = np.flatnonzero(np.diff(spans, prepend=-1)).tolist()
    return [
        PhaseSpan(
            name=program.spans[int(spans[start])].phase,
            percent=100 * (following - start) / len(spans),
        )
        for start, following in zip(starts, [*starts[1:], len(spans)], strict=True)
    ]
