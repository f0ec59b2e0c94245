"""Writing a report: one HTML page with all in it, and its tables as Markdown, JSON and CSV."""

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.report.parts import ReportPart, ReportTable, WholeReport
from bench.report.timeline_shapes import HEIGHT
from distill.base.errors import UserError
from distill.base.files import check_folder, check_output, ensure_folder, write_json, write_text
from distill.base.reading import read_json
from distill.report.tables import as_csv, as_markdown

PAGE_SUFFIXES = (".html", ".htm")


def check_places(page: Path, tables: Path | None) -> None:
    """Refuse places that can't be written, before anything is computed for them."""
    if not check_output(page) and page.suffix.lower() not in PAGE_SUFFIXES:
        raise UserError(f"{page} is no page's name: it must end in .html.")
    if tables is not None:
        check_folder(tables)


def write_page(path: Path, report: WholeReport) -> int:
    """Write the page whole; returns its bytes."""
    text = page_text(report)
    write_text(path, text)
    return len(text.encode(errors="backslashreplace"))


def page_text(report: WholeReport) -> str:
    """The page. What comes from files is escaped; nothing in it asks for an address."""
    environment = Environment(
        loader=PackageLoader("bench.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_address"] = _data_address
    return environment.get_template("page.html").render(
        report=report, height=HEIGHT, style=_own("page.css"), script=_own("page.js")
    )


def _own(name: str) -> Markup:
    """A file of this project, which needs no escaping."""
    place = resources.files("bench.report") / "template" / name
    return Markup(place.read_text(encoding="utf-8"))


def _data_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def write_tables(folder: Path, report: WholeReport) -> int:
    """Write every table as Markdown, as JSON and as CSV; returns how many CSV files.

    The CSV files of a report that was written there before are not left beside them.
    """
    ensure_folder(folder)
    before = _names_written(folder / "report.json")
    write_text(folder / "report.md", markdown_text(report))
    write_json(folder / "report.json", report_document(report))
    tables = [table for part in report.parts for table in part.tables]
    names = _csv_names([table.title for table in tables])
    for name, table in zip(names, tables, strict=True):
        write_text(folder / name, as_csv(table.rows))
    for name in set(before) - set(names):
        (folder / name).unlink(missing_ok=True)
    return len(tables)


def _csv_names(titles: Sequence[str]) -> list[str]:
    """The tables' files: their places in the report, and their titles."""
    plain = ["".join(one if one.isalnum() else " " for one in title.lower()) for title in titles]
    return [f"{n:02d}-{'-'.join(words.split())}.csv" for n, words in enumerate(plain, start=1)]


def _names_written(document: Path) -> list[str]:
    """The CSV files of the report whose tables are in `document`; none where it is no report."""
    if not document.is_file():
        return []
    try:
        parts = read_json(document, "report")["parts"]
        return _csv_names([table["title"] for part in parts for table in part["tables"]])
    except (UserError, KeyError, TypeError, AttributeError):
        return []


def markdown_text(report: WholeReport) -> str:
    """The report without its pictures."""
    blocks = [f"# {report.title}", report.about]
    for answer in report.verdict:
        blocks += [f"**{answer.question} {answer.short}**", "\n".join(_list(answer.sentences))]
    for part in report.parts:
        blocks += _markdown_part(part)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_part(part: ReportPart) -> list[str]:
    blocks = [f"## {part.title}", *part.sentences]
    if part.missing is not None:
        blocks.append(part.missing)
    for table in part.tables:
        rows = [{_cell(key): _cell(text) for key, text in row.items()} for row in table.rows]
        blocks += [f"### {_cell(table.title)}", as_markdown(rows), f"Source: {table.source}."]
    if part.plain_text:
        blocks.append(f"```\n{part.plain_text}\n```")
    return blocks


def _list(sentences: Any) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def report_document(report: WholeReport) -> dict[str, Any]:
    """The report without its pictures, as plain values."""
    return {
        "title": report.title,
        "about": report.about,
        "verdict": [
            {"question": a.question, "short": a.short, "sentences": list(a.sentences)}
            for a in report.verdict
        ],
        "parts": [
            {
                "title": part.title,
                "sentences": list(part.sentences),
                "missing": part.missing,
                "tables": [_table_document(table) for table in part.tables],
            }
            for part in report.parts
        ],
    }


def _table_document(table: ReportTable) -> dict[str, Any]:
    return {"title": table.title, "source": table.source, "rows": list(table.rows)}
