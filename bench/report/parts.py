"""What a report is made of: parts with sentences, tables, pictures and timelines. Values only."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report.timeline_shapes import OwnedTimeline
from distill.base.console import say
from distill.base.reading import read_plain
from distill.report.tables import Row, alignment

PNG = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 33
"""The signature and the header of a PNG (PNG, 5.2 and 11.2.2)."""

HALF_A_PAGE = 66
"""Characters of a row, with what is between its columns."""


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """Rows as they are shown, what they are, and where they come from. A long one is folded."""

    title: str
    rows: Sequence[Row]
    source: str
    folded: bool = False

    @property
    def alignment(self) -> list[str]:
        """`left` or `right`, for each column."""
        return alignment(self.rows)

    @property
    def is_wide(self) -> bool:
        """True if it is wider than half a page."""
        widths = (max(len(key), *(len(row[key]) for row in self.rows)) for key in self.rows[0])
        return sum(width + 2 for width in widths) > HALF_A_PAGE


@dataclass(frozen=True, kw_only=True)
class ReportPicture:
    """A PNG, what it shows in a sentence, and where that comes from."""

    title: str
    png: bytes
    source: str

    @property
    def is_wide(self) -> bool:
        """True if it is much wider than high, as its header says (PNG, 11.2.2 IHDR)."""
        width, height = struct.unpack(">II", self.png[16:24])
        return bool(width > 1.6 * height)


@dataclass(frozen=True, kw_only=True)
class ReportPart:
    """One heading and all below it. `missing` says what is not there, and what would bring it."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    pictures: Sequence[ReportPicture] = ()
    timelines: Sequence[OwnedTimeline] = ()
    plain_text: str = ""
    missing: str | None = None

    @property
    def anchor(self) -> str:
        """The title as a link's target."""
        return "-".join(word for word in self.title.lower().split() if word.isalnum())


@dataclass(frozen=True, kw_only=True)
class VerdictAnswer:
    """A question that the verdict answers, in a few words and in sentences."""

    question: str
    short: str
    sentences: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class WholeReport:
    """The title, the verdict, and the parts in their order."""

    title: str
    about: str
    verdict: Sequence[VerdictAnswer]
    parts: Sequence[ReportPart]


def drawn(title: str, source: str, draw: Callable[[Path], object]) -> list[ReportPicture]:
    """The picture that `draw` writes to a file; none where it writes none."""
    with TemporaryDirectory(prefix="report-") as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return found_picture(title, source, path) if path.exists() else []


def found_picture(title: str, source: str, path: Path) -> list[ReportPicture]:
    """A picture that lies there; what is none, or can't be read, is left out, which is said."""
    try:
        content = read_plain(path)
    except OSError as error:
        say(f"  {path} is left out: it can't be read ({error.strerror})")
        return []
    if not content.startswith(PNG) or len(content) < HEADER_BYTES:
        say(f"  {path} is left out: it is no PNG picture")
        return []
    return [ReportPicture(title=title, png=content, source=source)]
