"""Scores by class and the confusion matrix of a test, as files: CSV, Markdown and a picture."""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from distill.base.files import write_text
from distill.report.figure import GREYS, contrasting, new_figure, save
from distill.report.tables import Row, as_csv, as_markdown, as_text
from distill.spec.image_files import count_of
from distill.train.class_scores import ClassScore, ClassScores

SCORES, CONFUSION, TABLES, PICTURE = "classes.csv", "confusion.csv", "classes.md", "confusion.png"
"""The files that are written for a test."""

WHOLE_TABLE = 20
"""Up to so many classes the matrix is written out, in numbers; of more, the commonest mistakes."""

NAMED_CLASSES = 60
"""Up to so many classes have their names at the picture's sides."""

LONGEST_NAME = 24
"""Characters of a name in a picture."""


def write_class_report(folder: Path, found: ClassScores, title: str) -> None:
    """Write the four files; `title` says of which model and images they are.

    Where an image has several labels no class is taken for another: the picture shows how each
    class's question was answered, and there is no `confusion.csv`.
    """
    write_text(folder / SCORES, as_csv([_record(row) for row in found.rows]))
    if found.confusion is not None:
        write_text(folder / CONFUSION, _matrix_csv(found.names, found.confusion))
    write_text(folder / TABLES, _markdown(found, title))
    _draw(folder / PICTURE, found, title)


def class_text(found: ClassScores) -> str:
    """The scores by class as a table for a terminal."""
    return as_text(class_rows(found.rows))


def class_rows(rows: Sequence[ClassScore]) -> list[Row]:
    """One row a class; a dash where a score has no meaning, as of a class without images."""
    return [
        {
            "class": shown(row.name),
            "images": f"{row.images:,}",
            "right": f"{row.right:,}",
            "false positives": f"{row.false_positives:,}",
            "precision %": _percent(row.precision),
            "recall %": _percent(row.recall),
            "F1 %": _percent(row.f1_score),
            "AUC": "–" if row.auc is None else f"{row.auc:.4f}",
        }
        for row in rows
    ]


def shown(name: str) -> str:
    """A class's name on one line, as text: a folder may have a name that is neither."""
    whole = name.encode(errors="replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in whole)


def _record(row: ClassScore) -> dict[str, object]:
    return {
        "class": shown(row.name),
        "images": row.images,
        "right": row.right,
        "false_positives": row.false_positives,
        "precision": row.precision,
        "recall": row.recall,
        "f1_score": row.f1_score,
        "auc": row.auc,
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _matrix_csv(names: Sequence[str], confusion: NDArray[np.int64]) -> str:
    """The counts of images, a line a true class, a column an answer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true class", *map(shown, names)])
    for name, counts in zip(names, confusion.tolist(), strict=True):
        writer.writerow([shown(name), *counts])
    return text.getvalue()


def _markdown(found: ClassScores, title: str) -> str:
    scores = [
        {key: value.replace("|", "\\|") for key, value in row.items()}
        for row in class_rows(found.rows)
    ]
    parts = [f"# {shown(title)}", f"{count_of(found.images, 'image')}.", as_markdown(scores)]
    if found.confusion is not None and found.confusion.any():
        parts += _confusion_parts(found.names, found.confusion)
    return "\n\n".join(parts) + "\n"


def _confusion_parts(names: Sequence[str], confusion: NDArray[np.int64]) -> list[str]:
    clean = [shown(name).replace("|", "\\|") for name in names]
    if len(set(clean)) < len(clean):
        clean = [f"{name} ({number})" for number, name in enumerate(clean)]
    if len(names) <= WHOLE_TABLE:
        answers = [f"→ {name}" for name in clean]
        rows = [
            {"true class": name} | dict(zip(answers, [f"{n:,}" for n in counts], strict=True))
            for name, counts in zip(clean, confusion.tolist(), strict=True)
        ]
        return ["Images by their true class, a line each, and the answer:", as_markdown(rows)]
    mistakes = mistakes_of(confusion, WHOLE_TABLE)
    if not mistakes:
        return ["No image was taken for another class."]
    rows = [
        {
            "true class": clean[true],
            "taken for": clean[answer],
            "images": f"{count:,}",
            "of the class's": f"{int(confusion[true].sum()):,}",
        }
        for true, answer, count in mistakes
    ]
    return [f"The {len(rows)} commonest mistakes (all of them: {CONFUSION}):", as_markdown(rows)]


def mistakes_of(confusion: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """The pairs of a true class and another answer with the most images, and how many."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (divmod(int(place), len(wrong)) for place in order)
    return [(true, told, int(wrong[true, told])) for true, told in pairs if wrong[true, told]]


def _draw(path: Path, found: ClassScores, title: str) -> None:
    """A grey square a cell: the share of a true class's images that got that answer."""
    counts, answers = found.confusion, found.names
    across, what = "answer (class)", "Which class is taken for which"
    if counts is None:
        answers, across = ("right", "missed"), "answer to its images"
        what = "How each class's question is answered"
        counts = np.array([[row.right, row.images - row.right] for row in found.rows])
    shares = 100 * counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    high, wide = (min(3.5 + 0.3 * length, 16) for length in shares.shape)
    figure = new_figure(wide + 2, high)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap=GREYS, vmin=0, vmax=100, aspect="auto")
    axes.set(xlabel=across, ylabel="true class")
    _name(axes, found.names, answers)
    told = f"{what}\n{_plain(title, 80)}"
    if max(counts.shape) <= WHOLE_TABLE:
        _write_numbers(axes, counts, shares)
        told += ", numbers of images"
    figure.suptitle(told, fontsize=10)
    figure.colorbar(drawn, ax=axes, label="share of the true class's images (%)")
    with warnings.catch_warnings():  # a name in a script that matplotlib's font does not have
        warnings.filterwarnings("ignore", message="Glyph")
        save(path, figure)


def _name(axes: Axes, down: Sequence[str], across: Sequence[str]) -> None:
    if len(across) <= NAMED_CLASSES:
        labels = [_plain(name, LONGEST_NAME) for name in across]
        steep = 90 if max(map(len, labels)) > 3 else 0
        axes.set_xticks(range(len(across)), labels, rotation=steep)
    if len(down) <= NAMED_CLASSES:
        axes.set_yticks(range(len(down)), [_plain(name, LONGEST_NAME) for name in down])


def _write_numbers(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """How many images, in black or white as it is read best."""
    for (down, across), count in np.ndenumerate(counts):
        if count:
            axes.text(
                across,
                down,
                f"{count:,}",
                ha="center",
                va="center",
                color=contrasting(GREYS(float(shares[down, across]) / 100)),
                fontsize=8,
            )


def _plain(name: str, most: int) -> str:
    """A name that matplotlib takes as it is, and does not read as a formula."""
    short = shown(name)
    return (short if len(short) <= most else short[: most - 1] + "…").replace("$", "\\$")
