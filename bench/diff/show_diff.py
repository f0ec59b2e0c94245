"""Reads both sides, predicts again what is to be explained, and shows the difference."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.card.targets import target_named
from bench.diff.cell_labels import EXAMPLE, is_label, nearest_label
from bench.diff.command import DiffOptions
from bench.diff.diff_document import DiffDetail, Differences, OpRow, diff_json
from bench.diff.diff_text import diff_text
from bench.diff.pairs import DiffPair, paired
from bench.diff.sides import ByOwner, DiffItem, DiffSide, read_side
from distill.base.errors import UserError, in_short
from distill.base.files import check_apart
from distill.base.nearest import did_you_mean_beside
from distill.base.units import mib
from distill.device.visible_devices import hide_devices
from distill.spec.pins import default_allocator
from distill.spec.recipe import load_recipe

Ops = Mapping[tuple[str, str], tuple[int, str]]
"""Bytes and module by owner and op."""


def show_diff(options: DiffOptions) -> str:
    """The difference as text or JSON; draws the timelines on the way, if they are wanted."""
    hide_devices()
    check_apart({"--plot": options.plot}, options.a, options.b, options.recipe_name)
    sides = DiffSides(options)
    draw = None if options.plot is None else sides.predictors.drawing_to(options.plot)
    a, b = sides.side(options.a), sides.side(options.b)
    found = paired(a, b, options.cell)
    detail = None
    if len(found.pairs) == 1:
        detail, again = sides.explained(found.pairs[0], a, b, is_drawn=draw is not None)
        if draw is not None:
            _check_drawable(again)
            draw(*again)
    elif draw is not None:
        raise UserError(
            f"--plot draws one pair, and {len(found.pairs)} are on both sides. "
            "Choose one with --cell NAME."
        )
    one = Differences(a=a, b=b, found=found, detail=detail)
    return diff_json(one) if options.as_json else diff_text(one)


def _check_drawable(again: Sequence[Any]) -> None:
    for letter, one in zip("AB", again, strict=True):
        if one is None:
            raise UserError(
                f"{letter} can't be drawn: its file does not say which configuration it is, or "
                "for which card. Name the configuration itself, with --recipe and --target."
            )


class DiffSides:
    """The sides of one question. What predicts them is loaded when it is first needed."""

    def __init__(self, options: DiffOptions) -> None:
        self.options = options

    @cached_property
    def predictors(self) -> Any:
        """`again.Predictors`, which only loading torch can type."""
        from bench.diff.predicted_sides import Predictors  # loads torch, which two files do without

        return Predictors()

    def side(self, text: str) -> DiffSide:
        """The file of that name, else the configuration. Raises `UserError` for neither."""
        options, path = self.options, Path(text)
        if path.exists():
            return read_side(path)
        if not is_label(text):
            near = nearest_label(text)
            meant = f" Did you mean {near}?" if near else did_you_mean_beside(path)
            raise UserError(
                f"{in_short(text)} is neither a file nor a configuration such as {EXAMPLE}.{meant}"
            )
        recipe, target = load_recipe(options.recipe_name), target_named(options.target_name)
        allocator = options.allocator or default_allocator()
        side: DiffSide = self.predictors.side_of(text, recipe, target, allocator)
        return side

    def explained(
        self, pair: DiffPair, a: DiffSide, b: DiffSide, *, is_drawn: bool
    ) -> tuple[DiffDetail | None, list[Any]]:
        """The ops of a pair, and both predicted again where that is what tells them.

        Files that keep ops say them themselves; two that are the same need no explanation.
        """
        kept = [_kept(item) for item in (pair.a, pair.b)]
        if not is_drawn and None not in kept:
            return DiffDetail(ops=_rows(*kept)), []  # type: ignore[arg-type]
        if not is_drawn and pair.is_same:
            return None, []
        sides = ((pair.a, a), (pair.b, b))
        again = [self.predictors.again(item, side) for item, side in sides]
        notes = [
            note
            for letter, item, one in zip("AB", (pair.a, pair.b), again, strict=True)
            for note in _notes(letter, item, one)
        ]
        if notes:
            return DiffDetail(ops=(), notes=[*notes, "So ops are not compared."]), again
        return DiffDetail(ops=_rows(*(_predicted(one) for one in again))), again


def _notes(letter: str, item: DiffItem, one: Any) -> list[str]:
    """What keeps today's ops from being those of the file."""
    if one is None:
        return [f"{letter} does not say which configuration it is, or for which card."]
    if item.source == "predicted" and not one.agrees_with(item) and item.reserved_bytes is not None:
        return [
            f"{letter} is predicted otherwise today: {mib(one.reserved_bytes)} MiB reserved, and "
            f"not {mib(item.reserved_bytes)}."
        ]
    return []


def _kept(item: DiffItem) -> Ops | None:
    """An item's own ops, if its file keeps them."""
    if item.ops is None:
        return None
    by_owner: Mapping[str, ByOwner] = item.ops
    return {
        (owner, op): (size_bytes, "")
        for owner, inside in by_owner.items()
        for op, size_bytes in inside.items()
    }


def _predicted(one: Any) -> Ops:
    return {(op.owner, op.op): (op.size_bytes, op.module) for op in one.ops}


def _rows(a: Ops, b: Ops) -> list[OpRow]:
    """Every op of either side, the larger changes first. The module is B's, else A's."""
    nothing = (0, "")
    rows = [
        OpRow(
            owner=key[0],
            op=key[1],
            module=b.get(key, a.get(key, nothing))[1],
            a_bytes=a.get(key, nothing)[0],
            b_bytes=b.get(key, nothing)[0],
        )
        for key in dict.fromkeys([*a, *b])
    ]
    return sorted(rows, key=lambda row: -abs(row.b_bytes - row.a_bytes))
