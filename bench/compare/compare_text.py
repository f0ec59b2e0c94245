"""A comparison as text for a terminal, as Markdown for a pull request, and as one JSON document.

The verdict comes first. Lists end where nobody reads on, and say how much is left. Pure.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.compare.baseline import MOST_NAME, Baseline
from bench.compare.compare import Change, Difference, exit_code, worst_first
from bench.compare.limits import (
    OVER_EXIT_CODE,
    LimitCheck,
    limit_rows,
    limits_verdict,
    over_limit,
)
from distill.base.units import MIB
from distill.report.tables import OWNER_TITLES, Row, as_markdown, as_text

MOST_ROWS = {"text": 40, "markdown": 200}
"""Cells that are listed."""

MOST_MARKDOWN = 60_000
"""Characters: a comment of a pull request holds 65,536, and others may stand in it too."""

AGAINST = "Against the baseline: "

CHANGES: tuple[Change, ...] = ("same", "worse", "missing", "better", "new")
VERSIONS = ("torch", "timm")
SETTINGS = ("target", "recipe", "allocator")


@dataclass(frozen=True)
class ComparedSide:
    """What one side's numbers were predicted with."""

    torch: str
    timm: str
    target: str
    recipe: str
    allocator: str


@dataclass(frozen=True, kw_only=True)
class CompareDocument:
    """`bench compare --json`: the exit code, what each side is of, and every cell.

    Without a baseline there was none before `--update`.
    """

    exit_code: int
    baseline: ComparedSide | None
    current: ComparedSide
    cells: tuple[Difference, ...]
    limits: tuple[LimitCheck, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two sides and their differences. `updated`: the baseline is written anew, nothing is left.

    Where there are limits, they alone decide the exit code.
    """

    before: Baseline | None
    after: Baseline
    differences: Sequence[Difference]
    updated: bool = False
    limits: Sequence[LimitCheck] = ()

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.limits:
            return OVER_EXIT_CODE if over_limit(self.limits) else 0
        return 0 if self.updated else exit_code(self.differences)

    @property
    def changed(self) -> list[Difference]:
        """The cells that are not the same, the worst first."""
        return [one for one in worst_first(self.differences) if one.change != "same"]


def compare_json(found: Compared) -> str:
    """One JSON document with every cell."""
    document = CompareDocument(
        exit_code=found.exit_code,
        baseline=None if found.before is None else side_of(found.before),
        current=side_of(found.after),
        cells=tuple(found.differences),
        limits=tuple(found.limits),
    )
    return json.dumps(asdict(document), indent=2)


def compare_text(found: Compared) -> str:
    """Verdict, sides and the cells that changed, for a terminal."""
    parts = [verdict(found), summary(found.differences), environment(found)]
    if found.limits:
        held = as_text(limit_rows(found.limits))
        parts = [limits_verdict(found.limits), "", held, "", f"{AGAINST}{parts[0]}", *parts[1:]]
    changed = found.changed[: MOST_ROWS["text"]]
    if changed:
        parts += ["", as_text(difference_rows(changed)), *_left_off(found, len(changed))]
    return "\n".join([*parts, *_cure(found)])


def compare_markdown(found: Compared) -> str:
    """The same as Markdown, always short enough for a comment."""
    head = [plain(line) for line in (summary(found.differences), environment(found))]
    if found.limits:
        rows = _plain_rows(limit_rows(found.limits))
        first = [plain(limits_verdict(found.limits)), as_markdown(rows)]
        head = [*first, f"{AGAINST}{plain(verdict(found))}", *head]
    else:
        head.insert(0, plain(verdict(found)))
    head[0] = f"**Memory** · {head[0]}"
    count = min(len(found.changed), MOST_ROWS["markdown"])
    while True:
        changed = found.changed[:count]
        parts = list(head)
        if changed:
            parts += [as_markdown(_plain_rows(difference_rows(changed)))]
        text = "\n\n".join(
            [*parts, *(one for one in (*_left_off(found, count), *_cure(found)) if one)]
        )
        if len(text) <= MOST_MARKDOWN or not count:
            return text
        count //= 2


def verdict(found: Compared) -> str:
    """What became of the cells in a sentence, with the owner and the op of the largest change."""
    counts = {change: _count(found.differences, change) for change in CHANGES}
    if not found.changed:
        return f"the same: {_cells(counts['same'])}"
    if not counts["worse"] and not counts["missing"]:
        worst: Change = "better" if counts["better"] else "new"
    else:
        worst = "worse" if counts["worse"] else "missing"
    first = next(one for one in found.changed if one.change == worst)
    said = _largest(first) if first.peak else first.name[:MOST_NAME]
    if counts[worst] == 1:
        return f"{worst}: {said}"
    return (
        f"{worst}: {_cells(counts[worst])}; most: {said}"
        if first.peak
        else (f"{worst}: {_cells(counts[worst])}, {said} and others")
    )


def summary(differences: Sequence[Difference]) -> str:
    """Counts of the cells that are the same, worse, missing, better and new."""
    counts = {change: _count(differences, change) for change in CHANGES}
    words = ", ".join(f"{count:,} {change}" for change, count in counts.items() if count)
    return f"{_cells(len(differences))}: {words}"


def environment(found: Compared) -> str:
    """What both sides are of, and in what they differ. Of a driver no prediction knows."""
    after = side_of(found.after)
    before = after if found.before is None else side_of(found.before)
    words = []
    for name in (*VERSIONS, *SETTINGS):
        old, new = str(getattr(before, name))[:MOST_NAME], str(getattr(after, name))[:MOST_NAME]
        words.append(f"{name} {new}" if old == new else f"{name} {old} → {new}")
    different = before != after
    told = "The sides differ" if different else "Both sides predicted"
    return f"{told}: {', '.join(words)}; no driver takes part in a prediction."


def difference_rows(differences: Sequence[Difference]) -> list[Row]:
    """A row a cell: what moved, by how much, whose bytes they are and which op makes them."""
    return [
        {
            "cell": one.name if len(one.name) <= MOST_NAME else one.name[: MOST_NAME - 1] + "…",
            "change": one.change,
            "by MiB": signed_mib(one.delta_bytes) if one.peak else "–",
            "of": one.peak.removesuffix("_bytes") or "–",
            "owner": OWNER_TITLES.get(one.owner, "–"),
            "owner's MiB": signed_mib(one.owner_delta_bytes) if one.owner else "–",
            "op": op_name(one.op),
            "op's MiB": signed_mib(one.op_delta_bytes) if one.op else "–",
        }
        for one in differences
    ]


def op_name(op: str) -> str:
    """An op as it is shown: without its overload where that is the default one."""
    return op.removesuffix(".default")[:MOST_NAME] or "–"


def signed_mib(size_bytes: int) -> str:
    """MiB with a sign, small changes in bytes."""
    if 0 < abs(size_bytes) < MIB / 100:
        return f"{size_bytes:+,} B"
    return f"{size_bytes / MIB:+,.2f}"


def side_of(baseline: Baseline) -> ComparedSide:
    """What a baseline's numbers were predicted with."""
    return ComparedSide(**{name: getattr(baseline, name) for name in (*VERSIONS, *SETTINGS)})


def plain(text: str) -> str:
    """Text that Markdown and HTML take for text: names come from files."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_|[]<>#" else letter for letter in text)
    return " ".join(escaped.split())


def _largest(one: Difference) -> str:
    """The cell, by how much it moved, whose bytes they are, and which op makes them."""
    moved = signed_mib(one.delta_bytes)
    unit = "" if moved.endswith("B") else " MiB"
    said = f"{one.name[:MOST_NAME]} by {moved}{unit} {one.peak.removesuffix('_bytes')}"
    if one.owner:
        said += f", of {OWNER_TITLES.get(one.owner, one.owner)}"
    return f"{said} ({op_name(one.op)})" if one.op else said


def _left_off(found: Compared, shown: int) -> list[str]:
    left = len(found.changed) - shown
    return (
        [f"… and {_cells(left)} more that changed: --json and --html FILE list all."]
        if left
        else []
    )


def _plain_rows(rows: Sequence[Row]) -> list[Row]:
    return [{key: plain(text) for key, text in row.items()} for row in rows]


def _cure(found: Compared) -> list[str]:
    cure = {1: "A change costs memory, or a cell is gone.", 5: "The baseline is stale."}
    if found.limits:
        return _limits_cure(found)
    if not found.exit_code:
        return []
    return ["", f"{cure[found.exit_code]} If that is meant: bench compare --update."]


def _limits_cure(found: Compared) -> list[str]:
    code = exit_code(found.differences)
    if not code or found.updated:
        return []
    return ["", f"The limits decide the exit code; the baseline's would be {code}."]


def _count(differences: Sequence[Difference], change: Change) -> int:
    return sum(one.change == change for one in differences)


def _cells(count: int) -> str:
    return f"{count:,} cell" if count == 1 else f"{count:,} cells"
