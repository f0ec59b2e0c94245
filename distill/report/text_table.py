"""Aligned tables that fit the terminal: cells are wrapped, and then columns go below one another.

Pure, but for the width of the terminal that is asked for where none is given.
"""

import re
import shutil
import sys
from collections.abc import Sequence

from tabulate import tabulate

GAP = 2
"""Blanks between columns."""

LEAST_TEXT = 12
"""A column of words is wrapped to no less."""

LEAST_COLUMNS = 40
"""A terminal that is narrower is treated as one of so many columns."""

WORD = re.compile(r"\s*\S+|\s+")
PIECE = re.compile(r"[^_./,+-]*[_./,+-]|[^_./,+-]+")
"""What stays together in a word that is too long for a line: a name is broken after a mark."""

Line = Sequence[str]


def terminal_columns() -> int | None:
    """The width that output is shown in; `None` where it goes to a file or another program."""
    if not sys.stdout.isatty():
        return None
    return max(LEAST_COLUMNS, shutil.get_terminal_size().columns)


def text_table(
    heads: Line, body: Sequence[Line], aligns: Sequence[str], columns: int | None
) -> str:
    """A table no wider than so many columns; as wide as it is where that is `None`.

    Headings and words are wrapped, numbers never. What is still too wide comes in several tables
    below one another, each of which begins with the first column.
    """
    whole = tabulate(body, headers=heads, tablefmt="simple", disable_numparse=True, colalign=aligns)
    if columns is None or max(map(len, whole.splitlines())) <= columns:
        return whole
    least = [_least(head, cells, align) for head, cells, align in _upright(heads, body, aligns)]
    natural = [_widest([head, *cells]) for head, cells, _ in _upright(heads, body, aligns)]
    return "\n\n".join(
        _drawn(heads, body, aligns, dict(zip(part, widths, strict=True)))
        for part in _parts(least, columns)
        for widths in [_narrowed([natural[n] for n in part], [least[n] for n in part], columns)]
    )


def _upright(
    heads: Line, body: Sequence[Line], aligns: Sequence[str]
) -> list[tuple[str, list[str], str]]:
    """Each column: its heading, its cells, its side."""
    columns = zip(*body, strict=True)
    return [
        (head, list(cells), align)
        for head, cells, align in zip(heads, columns, aligns, strict=True)
    ]


def _least(head: str, cells: list[str], align: str) -> int:
    """The narrowest that a column may be: numbers whole, words wrapped."""
    words = max(map(len, head.split()), default=1)
    if align == "right":
        return max(words, _widest(cells))
    return max(words, min(LEAST_TEXT, _widest(cells)))


def _widest(cells: Sequence[str]) -> int:
    return max((len(line) for cell in cells for line in cell.splitlines()), default=0)


def _parts(least: Sequence[int], columns: int) -> list[list[int]]:
    """Columns by table, so that each can be made to fit; the first is in every one."""
    parts: list[list[int]] = []
    for place in range(1, len(least)):
        last = parts[-1] if parts else []
        if last and _whole_width([least[n] for n in (*last, place)]) <= columns:
            last.append(place)
        else:
            parts.append([0, place])
    return parts or [[0]]


def _narrowed(natural: list[int], least: list[int], columns: int) -> list[int]:
    """Widths that fit: the widest column gives way first, and none beyond its least."""
    widths = list(natural)
    while _whole_width(widths) > columns:
        free = [n for n, width in enumerate(widths) if width > least[n]]
        if not free:
            break
        widths[max(free, key=lambda n: widths[n])] -= 1
    return widths


def _whole_width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _drawn(heads: Line, body: Sequence[Line], aligns: Sequence[str], widths: dict[int, int]) -> str:
    """Those columns with their cells wrapped. `plain` pads no heading, as `simple` does."""
    lines = [
        ["\n".join(_wrapped(line[place], width)) for place, width in widths.items()]
        for line in (heads, *body)
    ]
    used = [_widest([line[n] for line in lines]) for n in range(len(widths))]
    rule = ["-" * width for width in used]
    drawn = tabulate(
        [lines[0], rule, *lines[1:]],
        tablefmt="plain",
        disable_numparse=True,
        colalign=[aligns[place] for place in widths],
    )
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most that width, broken at blanks, else after marks, else anywhere."""
    lines = [""]
    for word in WORD.findall(text):
        fits = len(word.strip()) <= width
        for piece in [word] if fits else PIECE.findall(word):
            if lines[-1] and len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece if lines[-1] else piece.lstrip()
            while len(lines[-1]) > width:
                lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return lines
