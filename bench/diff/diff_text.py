"""A difference as text for a terminal: the verdict first, then what explains it. Pure."""

from collections.abc import Sequence

from bench.compare.baseline import MOST_NAME
from bench.compare.compare_text import op_name, signed_mib
from bench.diff.diff_document import DiffDetail, Differences
from bench.diff.pairs import DiffPair, candidate_changes
from bench.diff.sides import DiffItem
from distill.base.units import MIB, rate
from distill.report.tables import OWNER_TITLES, Row, as_text, exact_mib

MOST_PAIRS = 40
MOST_OPS = 12
MOST_NAMES = 6
"""Rows and names that a terminal shows; JSON has all."""

ENVIRONMENT = ("torch", "timm", "driver", "card", "recipe", "digest", "allocator", "status")


def diff_text(one: Differences) -> str:
    """The verdict, the two sides, and what differs."""
    if len(one.found.pairs) == 1:
        return "\n".join(_single(one, one.found.pairs[0]))
    return "\n".join(_several(one))


def pair_verdict(pair: DiffPair) -> str:
    """What B needs beyond A, in a sentence."""
    failed = [
        f"{letter} ended as {item.outcome}"
        for letter, item in (("A", pair.a), ("B", pair.b))
        if item.outcome != "ok"
    ]
    if failed:
        return " and ".join(failed) + ": no peak to compare"
    change = pair.change_bytes
    if change is None:
        return "not known: a peak is missing"
    peaks = f"{_peak(pair.a)} → {_peak(pair.b)} MiB reserved ({_sources(pair)})"
    if pair.is_same:
        return f"the same: {peaks}, to the byte"
    if not change:
        return f"the same reserved, made up otherwise: {peaks}"
    word = "more" if change > 0 else "less"
    return f"B needs {signed_mib(abs(change)).removeprefix('+')} {_unit(change)}{word}: {peaks}"


def _unit(change: int) -> str:
    return "" if abs(change) < MIB / 100 else "MiB "


def _single(one: Differences, pair: DiffPair) -> list[str]:
    lines = [pair_verdict(pair), "", *_heads(one, pair), *_settings(pair), *environment(one), ""]
    lines += [as_text(_owner_rows(pair))]
    detail = one.detail
    if detail is not None:
        lines += ["", *_op_lines(detail)] if detail.ops else []
        lines += ["", *detail.notes] if detail.notes else []
    speeds = [item.images_per_second for item in (pair.a, pair.b)]
    if None not in speeds:
        lines += ["", f"images/s: {rate(speeds[0])} → {rate(speeds[1])} ({_sources(pair)})"]
    only = [*_only("A", one.found.only_a), *_only("B", one.found.only_b)]
    lines += ["", *only] if only else []
    return [*lines, "", "Next: --plot FILE.png draws both timelines; --json has every op."]


def _heads(one: Differences, pair: DiffPair) -> list[str]:
    rows = [
        f"{letter}  {side.title}: {item.name}, {item.source}"
        if side.title != item.name
        else f"{letter}  {item.name}, {item.source}"
        for letter, side, item in (("A", one.a, pair.a), ("B", one.b, pair.b))
    ]
    return rows


def _settings(pair: DiffPair) -> list[str]:
    if pair.a.candidate is None or pair.b.candidate is None:
        return []
    changes = candidate_changes(pair.a.candidate, pair.b.candidate)
    return [f"They differ in: {'; '.join(changes)}." if changes else "Their settings are the same."]


def environment(one: Differences) -> list[str]:
    """What the numbers of both sides are of, and in what that differs."""
    same, differ = [], []
    for name in ENVIRONMENT:
        a, b = one.a.environment.get(name), one.b.environment.get(name)
        if a == b and a is not None:
            same.append(f"{name} {a}")
        elif a is not None and b is not None:
            differ.append(f"{name} {a} → {b}")
        elif a != b and name == "driver":
            differ.append(f"{name} {a or 'none'} → {b or 'none'}")
    lines = [f"Numbers of other conditions: {', '.join(differ)}."] if differ else []
    return [*lines, f"Both: {', '.join(same)}."] if same else lines


def _owner_rows(pair: DiffPair) -> list[Row]:
    """A row an owner where both tell, and the peaks."""
    rows: list[Row] = []
    a, b = pair.a.breakdown, pair.b.breakdown
    if a and b:
        rows = [
            _bytes_row("owner", title, a.get(owner, 0), b.get(owner, 0))
            for owner, title in OWNER_TITLES.items()
            if a.get(owner) or b.get(owner)
        ]
    for peak in ("reserved", "allocated", "requested"):
        one, other = (getattr(item, f"{peak}_bytes") for item in (pair.a, pair.b))
        if one is not None and other is not None:
            rows.append(_bytes_row("owner", f"peak {peak}", one, other))
    return rows or [{"owner": "–", "A MiB": "–", "B MiB": "–", "change MiB": "–"}]


def _bytes_row(what: str, title: str, a: int, b: int) -> Row:
    change = signed_mib(b - a) if a != b else "–"
    return {what: title, "A MiB": exact_mib(a), "B MiB": exact_mib(b), "change MiB": change}


def _op_lines(detail: DiffDetail) -> list[str]:
    differ = [row for row in detail.ops if row.a_bytes != row.b_bytes]
    if not differ:
        return ["No op differs where most is requested (predicted)."]
    rows = [
        {"op": op_name(row.op), "owner": OWNER_TITLES[row.owner]}
        | _bytes_row("module", row.module or "–", row.a_bytes, row.b_bytes)
        for row in differ[:MOST_OPS]
    ]
    left = len(differ) - len(rows)
    more = [f"… and {left} more: --json"] if left else []
    title = "ops that differ where most is requested (predicted)"
    return [title, as_text(_without_empty(rows)), *more]


def _several(one: Differences) -> list[str]:
    found, pairs = one.found, one.found.pairs
    same = sum(pair.is_same for pair in pairs)
    lines = [_overview(pairs, same), f"A  {one.a.title}", f"B  {one.b.title}", *environment(one)]
    changed = [pair for pair in pairs if not pair.is_same]
    if changed:
        rows = [_pair_row(pair) for pair in changed[:MOST_PAIRS]]
        lines += ["", as_text(_without_empty(rows))]
        if len(changed) > MOST_PAIRS:
            lines.append(f"… and {len(changed) - MOST_PAIRS:,} more that differ: --json lists all")
    lines += [*_only("A", found.only_a), *_only("B", found.only_b)]
    if changed:
        lines += ["", f"Next: --cell {pairs[0].a.name} shows this one in detail."]
    return lines


def _without_empty(rows: Sequence[Row]) -> list[Row]:
    """Rows without the columns of which nothing is known."""
    told = {key for row in rows for key, text in row.items() if text != "–"}
    return [{key: text for key, text in row.items() if key in told} for row in rows]


def _overview(pairs: Sequence[DiffPair], same: int) -> str:
    if not pairs:
        return "no configuration is on both sides"
    words = f"{len(pairs):,} configurations on both sides: {same:,} the same"
    if same == len(pairs):
        return words
    first = pairs[0]
    return f"{words}, {len(pairs) - same:,} differ; most {first.name}: {pair_verdict(first)}"


def _pair_row(pair: DiffPair) -> Row:
    change = pair.change_bytes
    owner, owner_change = next(iter(pair.owners.items()), ("", 0))
    return {
        "configuration": pair.name[:MOST_NAME],
        "A MiB": _peak(pair.a),
        "B MiB": _peak(pair.b),
        "change MiB": "–" if change is None else signed_mib(change),
        "numbers": _sources(pair),
        "owner": OWNER_TITLES.get(owner, "–"),
        "owner's MiB": signed_mib(owner_change) if owner else "–",
        "A images/s": rate(pair.a.images_per_second),
        "B images/s": rate(pair.b.images_per_second),
    }


def _only(letter: str, items: Sequence[DiffItem]) -> list[str]:
    if not items:
        return []
    names = ", ".join(item.name[:MOST_NAME] for item in items[:MOST_NAMES])
    more = " …" if len(items) > MOST_NAMES else ""
    return [f"Only {letter} has {len(items):,}: {names}{more}"]


def _peak(item: DiffItem) -> str:
    if item.outcome != "ok":
        return f"– ({item.outcome})"
    return "–" if item.reserved_bytes is None else exact_mib(item.reserved_bytes)


def _sources(pair: DiffPair) -> str:
    one, other = pair.a.source, pair.b.source
    return one if one == other else f"A {one}, B {other}"
