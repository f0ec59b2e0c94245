"""The tables of an evidence folder: errors of the prediction, and who is how fast. No GPU.

`docs/prediction.md` takes its error table from here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.evidence.comparison import compare_all, error_table, recordings_in
from bench.evidence.plan import OWN
from distill.base.units import mib, rate
from distill.report.tables import Row, as_markdown


def evidence_tables(folder: Path) -> str:
    """All tables as Markdown; sentences where there is nothing to show."""
    files = recordings_in(folder)
    timed = read_throughput(folder)
    parts = [
        "# Prediction against recording",
        error_table(files, compare_all(files)),
        "# Throughput",
        throughput_table(timed),
        "# CUDA context",
        context_table(timed),
    ]
    return "\n\n".join(parts) + "\n"


def context_table(trials: Sequence[dict[str, Any]]) -> str:
    """The CUDA context's bytes when it was made, and at the end with all kernels loaded."""
    rows = [
        {
            "stage": trial["candidate"]["stage"],
            "who": trial["name"],
            "precision": trial["candidate"]["precision"],
            "bare MiB": mib(trial["reading"]["context_bytes"]),
            "at the end MiB": mib(_context_at_end(trial["reading"])),
        }
        for trial in trials
        if trial["reading"] and trial["reading"]["context_bytes"] is not None
    ]
    return as_markdown(rows) if rows else "No context could be measured yet."


def _context_at_end(reading: dict[str, Any]) -> int | None:
    """All that is outside PyTorch's segments, less what others had before the context was made."""
    outside = reading["rounds"][-1]["outside_bytes"]
    others = reading["device_used_after_bytes"] - reading["context_bytes"]
    return None if outside is None else int(outside - others)


def throughput_table(trials: Sequence[dict[str, Any]]) -> str:
    """One row a contestant: the median over all rounds, against the profile's in its stage."""
    if not trials:
        return "No throughput could be measured yet."
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in trials:
        groups.setdefault((trial["candidate"]["stage"], trial["name"]), []).append(trial)
    own = {stage: _speed(found) for (stage, name), found in groups.items() if name == OWN}
    return as_markdown([_row(key, found, own.get(key[0])) for key, found in groups.items()])


def _row(key: tuple[str, str], found: list[dict[str, Any]], own: float | None) -> Row:
    stage, name = key
    candidate, speed = found[0]["candidate"], _speed(found)
    reserved = [
        trial["reading"]["reserved_bytes"]
        for trial in found
        if trial["reading"] and trial["reading"]["reserved_bytes"] is not None
    ]
    plain = found[0]["by"] == "plain loop"
    return {
        "stage": stage,
        "who": name,
        "precision": "fp32" if plain else candidate["precision"],
        "checkpointing": "0" if plain else str(candidate["checkpointing"]),
        "batch": f"{candidate['micro_batch']} × {candidate['accumulation']}",
        "images/s": rate(speed),
        "of the profile's": f"{speed / own:.2f}" if speed and own else "–",
        "peak MiB": mib(max(reserved, default=None)),
        "outcome": ", ".join(sorted({trial["outcome"] for trial in found})),
        "rounds": str(len(found)),
    }


def _speed(found: list[dict[str, Any]]) -> float | None:
    speeds = [t["images_per_second"] for t in found if t["images_per_second"] is not None]
    return median(speeds) if speeds else None


def read_throughput(folder: Path) -> list[dict[str, Any]]:
    """The timed contestants under a folder, as they were written."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("throughput.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["trials"]
    return found
