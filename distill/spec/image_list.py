"""A list of images in a CSV file: which file is an image of which class, and of which part.

Columns `file` and `label`, and `split` where the data come in parts. Paths are from the folder of
the list. Looks at the list alone: whether the files are there is found out when they are decoded.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from distill.base.errors import UserError
from distill.base.reading import JOURNAL_BYTES, read_text
from distill.base.whole_path import whole_path
from distill.spec.image_files import count_of, listed
from distill.spec.image_folder import PART_OF, PARTS, Layout, Part, check_sizes, lacking

DELIMITERS = ",;\t"
NEEDED = ("file", "label")
KNOWN = (*NEEDED, "split")
CURE = "Its first line names the columns: file, label and, if the data come in parts, split."


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One image of the list; `number` counts lines from 1."""

    number: int
    path: Path
    label: str
    part: Part | None


def listed_layout(path: Path) -> Layout:
    """The images of the list `path`.

    Read once in a process, so that all who ask see the same images. Raises `UserError` for what
    is no such list, for a file with two labels, fewer than two classes, and a class with too few
    images to split.
    """
    found = _read(_there(path), path.stat().st_mtime_ns)
    parts = _to_train_on(path, found.parts)
    return Layout(classes=tuple(parts["train"]), parts=parts, ignored=found.ignored)


def listed_parts(path: Path) -> Mapping[Part | None, Mapping[str, Sequence[Path]]]:
    """The images of the list by part and class as it has them; `None` where it names no part."""
    return _read(_there(path), path.stat().st_mtime_ns).parts


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """A list as it was read, and what of it is not used."""

    parts: Mapping[Part | None, Mapping[str, Sequence[Path]]]
    ignored: tuple[str, ...]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"There is no list of images {path}. Name a CSV file: csv:FILE.")
    return whole_path(path)


@lru_cache(maxsize=4)
def _read(path: Path, changed_ns: int) -> _Listed:
    text = read_text(path, "list of images", most_bytes=JOURNAL_BYTES)
    delimiter, columns = _columns(path, text)
    lines: dict[Path, _Line] = {}
    again = 0
    for line in _lines(path, text, delimiter, columns):
        before = lines.setdefault(line.path, line)
        if before is not line:
            _check_same(path, before, line)
            again += 1
    come = "comes" if again == 1 else "come"
    ignored = [f"{count_of(again, 'line')} that {come} again"] if again else []
    if others := [name for name in columns if name not in KNOWN]:
        ignored.append(f"columns {listed(others)}")
    return _Listed(parts=_by_part(path, list(lines.values())), ignored=tuple(ignored))


def _columns(path: Path, text: str) -> tuple[str, list[str]]:
    """What divides the columns, and their names, from the first line."""
    first = text.splitlines()[0] if text.strip() else ""
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            cells = []
        names = [cell.strip().lower() for cell in cells]
        if set(NEEDED) <= set(names):
            twice = [name for name in KNOWN if names.count(name) > 1]
            if twice:
                raise UserError(f"{path} has column {twice[0]} twice. Keep one of them.")
            return delimiter, names
    raise UserError(
        f"{path} begins with {first[:80]!r}, which does not name the columns file and label. {CURE}"
    )


def _lines(path: Path, text: str, delimiter: str, columns: Sequence[str]) -> Iterator[_Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        next(reader)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _line(path, reader.line_num, cells, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}. Mend that line.") from error


def _line(path: Path, number: int, cells: Sequence[str], columns: Sequence[str]) -> _Line:
    if len(cells) != len(columns):
        raise UserError(
            f"{path}, line {number} has {len(cells)} columns, the first line names "
            f"{len(columns)}. Put names that hold a comma in quotes."
        )
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    empty = [name for name in NEEDED if not values[name]]
    if empty or "\0" in values["file"]:
        raise UserError(f"{path}, line {number} has no {(*empty, 'file')[0]}. Mend that line.")
    split = values.get("split", "")
    if split and split.lower() not in PART_OF:
        raise UserError(
            f"{path}, line {number}: split {split!r} is not known. There are: train, val, test."
        )
    return _Line(
        number=number,
        path=path.parent / values["file"],
        label=values["label"],
        part=PART_OF[split.lower()] if split else None,
    )


def _check_same(path: Path, before: _Line, line: _Line) -> None:
    """Refuse a file that is listed twice and not as the same."""
    if before.label != line.label:
        raise UserError(
            f"{path} lists {line.path} as {before.label!r} (line {before.number}) and as "
            f"{line.label!r} (line {line.number}). An image has one label here; keep one line."
        )
    if before.part != line.part:
        raise UserError(
            f"{path} lists {line.path} in two parts (lines {before.number} and {line.number}). "
            "Keep one line."
        )


def _by_part(
    path: Path, lines: Sequence[_Line]
) -> Mapping[Part | None, Mapping[str, Sequence[Path]]]:
    without = [line for line in lines if line.part is None]
    if without and len(without) < len(lines):
        raise UserError(
            f"{path}, line {without[0].number} names no split, as others do. Give every line one, "
            "or leave the column out."
        )
    found: dict[Part | None, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line.part][line.label].append(line.path)
    return {
        part: {label: sorted(by_class[label]) for label in sorted_labels(by_class)}
        for part, by_class in found.items()
    }


def _to_train_on(
    path: Path, listed_by: Mapping[Part | None, Mapping[str, Sequence[Path]]]
) -> dict[Part, Mapping[str, Sequence[Path]]]:
    """The parts in their order, if they can be trained on; `train` alone where none is named."""
    named = {part or "train": by_class for part, by_class in listed_by.items()}
    found = {part: named[part] for part in PARTS if part in named}
    classes = found.get("train", {})
    if len(classes) < 2:
        raise UserError(
            f"{path} lists {len(classes)} class(es) to train on; a classifier needs at least two."
        )
    for part, by_class in found.items():
        foreign = [label for label in by_class if label not in classes]
        if foreign:
            raise UserError(
                f"{path} lists class {foreign[0]!r} in {part}, which is not among the images to "
                "train on. Add it there, or remove it here."
            )
    check_sizes(classes, lacking(found))
    return found


def sorted_labels(labels: Mapping[str, object]) -> list[str]:
    """Labels in their order: whole numbers by size, all others as text."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
