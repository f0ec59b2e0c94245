"""The tables of a run: accuracy by stage, and the memory budget that it was held to.

Turns values into text and rows. Reads nothing, writes nothing.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tabulate import tabulate

from distill.base.units import MIB, count_text, duration, mib, percent
from distill.report.text_table import terminal_columns, text_table
from distill.spec.candidate import StageName
from distill.spec.profile import Choice
from distill.train.run_folder import TIME_PARTS, StageResult

Row = dict[str, str]

OWNER_TITLES = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer_state": "optimizer state",
    "activations": "activations kept for backward",
    "teacher": "teacher",
    "low_precision_weights": "low-precision weight copies",
    "temporaries": "temporaries",
    "workspaces": "library workspaces",
    "allocator_slack": "allocator slack",
}


ACCURACY_TITLE = "accuracy % ± s.e."


def accuracy_text(accuracy: float, images: int) -> str:
    """Percent and its standard error: binomial, as if each image were right or wrong by chance."""
    chance = min(max(accuracy, 0.0), 1.0)
    return f"{100 * accuracy:.2f} ± {100 * math.sqrt(chance * (1 - chance) / images):.2f}"


def accuracy_rows(
    results: Sequence[StageResult], titles: Mapping[StageName, str] = MappingProxyType({})
) -> list[Row]:
    """One row a stage: scores in percent on the untouched test images.

    `titles` tell models of one name apart (`ModelSpec.title`).
    """
    return [
        {
            "stage": result.stage,
            "model": titles.get(result.stage, result.model),
            "parameters": count_text(result.parameters),
            ACCURACY_TITLE: accuracy_text(result.test_accuracy, result.test_images),
            "precision %": f"{100 * result.test_precision:.2f}",
            "recall %": f"{100 * result.test_recall:.2f}",
            "F1 %": f"{100 * result.test_f1_score:.2f}",
            "AUC": "–" if result.test_auc is None else f"{result.test_auc:.4f}",
            "best epoch": f"{result.best_epoch} of {result.epochs}",
            "time": duration(result.train_seconds),
            "peak MiB": mib(result.peak_reserved_bytes),
        }
        for result in results
    ]


def time_rows(results: Sequence[StageResult]) -> list[Row]:
    """One row a stage of which it is known: the share of its epochs' time that each part took."""
    rows = []
    for result in results:
        parts = [getattr(result, f"{name}_seconds") for name in TIME_PARTS]
        if None not in parts:
            shares = [percent(seconds, sum(parts)) for seconds in parts]
            epoch = duration(result.train_seconds / result.epochs)
            titled = dict(zip(TIME_PARTS.values(), shares, strict=True))
            rows.append({"stage": result.stage, "an epoch": epoch, **titled})
    return rows


def breakdown_rows(choices: Sequence[Choice]) -> list[Row]:
    """One row an owner, one column a stage: MiB at the predicted peak and the share of it.

    Where a choice was measured, its measured peak stands below.
    """
    peaks = {choice.stage: sum(choice.breakdown.values()) for choice in choices}
    rows = [
        {"owner": title}
        | {f"{c.stage} MiB": _part(c.breakdown[owner], peaks[c.stage]) for c in choices}
        for owner, title in OWNER_TITLES.items()
    ]
    whole = {f"{stage} MiB": _part(peak, peak) for stage, peak in peaks.items()}
    rows.append({"owner": "peak reserved"} | whole)
    measured = {c.stage: c.peak_reserved_bytes for c in choices if c.source == "measured"}
    if measured:
        told = {f"{c.stage} MiB": _measured(measured.get(c.stage), peaks[c.stage]) for c in choices}
        rows.append({"owner": "measured"} | told)
    return rows


def breakdown_records(choices: Sequence[Choice]) -> list[dict[str, str | int]]:
    """`breakdown_rows` in bytes, for programs."""
    return [
        {"owner": owner} | {f"{choice.stage}_bytes": choice.breakdown[owner] for choice in choices}
        for owner in OWNER_TITLES
    ]


def _part(size_bytes: int, whole_bytes: int) -> str:
    share = percent(size_bytes, whole_bytes)
    return f"{exact_mib(size_bytes)} {share:>8}"


def _measured(size_bytes: int | None, whole_bytes: int) -> str:
    return "–" if size_bytes is None else _part(size_bytes, whole_bytes)


def exact_mib(size_bytes: int) -> str:
    """MiB with two decimals, for parts that are to add up before the eye."""
    return f"{size_bytes / MIB:,.2f}"


def as_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as an aligned table, within the width of the terminal where it is printed to one."""
    heads = list(rows[0])
    body = [[row[head] for head in heads] for row in rows]
    return text_table(heads, body, alignment(rows), terminal_columns())


def as_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a Markdown table."""
    return tabulate(
        rows, headers="keys", tablefmt="github", disable_numparse=True, colalign=alignment(rows)
    )


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def alignment(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns of numbers to the right, the others to the left."""
    return ["right" if all(_is_number(row[key]) for row in rows) else "left" for key in rows[0]]


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "–-+"
