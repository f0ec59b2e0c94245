"""The tables of an evidence folder: errors of the prediction, and who is how fast. No GPU.

`docs/prediction.md` takes its error table from here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from bench.evidence.comparison import compare_all, error_table, recordings_in
from bench.evidence.plan import OWN, SMALL
from bench.evidence.timing_fit import TimedMachine, timing_table
from bench.probe.grid_tables import count_cell, quartile_rates
from bench.trials.trial import Measured, Outcome
from distill.base.units import mib, rate
from distill.report.tables import Row, as_markdown
from distill.spec.candidate import Candidate
from distill.spec.step_times import Quartiles, StepTiming, quartiles_of
from distill.spec.validated import read_as

_MEASURED = TypeAdapter(Measured)


def evidence_tables(folder: Path, machines: Sequence[TimedMachine] = ()) -> str:
    """All tables as Markdown; sentences where there is nothing to show."""
    files = recordings_in(folder)
    timed = [one for one in read_throughput(folder) if one["name"] != SMALL]
    parts = [
        "# Prediction against recording",
        error_table(files, compare_all(files)),
        "# Throughput",
        throughput_table(timed),
        "# Predicted and measured times",
        timing_table(machines),
        "# CUDA context",
        context_table(timed),
        "# Time",
        time_table(folder),
    ]
    return "\n\n".join(parts) + "\n"


def time_table(folder: Path) -> str:
    """What each part of a run took, and how many of how many; one row a part."""
    rows = [
        {
            "command": index["command"],
            "part": part["part"],
            "done": f"{_told(part.get('count'))} of {_told(part.get('of'))}",
            "took s": _told(part["seconds"]),
            "expected s": _told(part.get("expected_seconds")),
            "might take s": _told(part.get("may_take_seconds")),
        }
        for index in _indexes(folder)
        for part in index["parts"]
    ]
    return as_markdown(rows) if rows else "No part was begun yet."


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


class _Part(BaseModel):
    """What became of a part of the evidence; one that was begun and not ended took no seconds."""

    part: str
    done: bool
    seconds: float | None
    count: float | None = None
    of: float | None = None
    expected_seconds: float | None = None
    may_take_seconds: float | None = None


class _Index(BaseModel):
    """The parts of one run, as `evidence` writes them."""

    command: str
    parts: list[_Part]


def _indexes(folder: Path) -> list[dict[str, Any]]:
    """Every run's parts under a folder. Raises `UserError` for a file that holds none."""
    paths = sorted(folder.rglob("index.json"))
    return [read_as(_Index, path).model_dump() for path in paths]


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
    outside = reading["rounds"][-1]["outside_bytes"] if reading["rounds"] else None
    before = reading["device_used_after_bytes"]
    if outside is None or before is None:
        return None
    return int(outside - (before - reading["context_bytes"]))


def throughput_table(trials: Sequence[dict[str, Any]]) -> str:
    """One row a contestant: the median over all rounds, against the profile's in its stage."""
    if not trials:
        return "No throughput could be measured yet."
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in trials:
        groups.setdefault((trial["candidate"]["stage"], trial["name"]), []).append(trial)
    own = {stage: found for (stage, name), found in groups.items() if name == OWN}
    return as_markdown([_row(key, found, own.get(key[0], [])) for key, found in groups.items()])


def _row(key: tuple[str, str], found: list[dict[str, Any]], own: list[dict[str, Any]]) -> Row:
    stage, name = key
    candidate, timing = found[0]["candidate"], _per_image(found)
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
        "images/s": rate(_speed(found)),
        "quartiles": "–" if timing is None else _quartiles_text(timing.quartiles),
        "of the profile's": _ratio(found, own),
        "bound by": (None if timing is None else timing.bound_by) or "–",
        "launches": count_cell(None if timing is None else timing.launches),
        "peak MiB": mib(max(reserved, default=None)),
        "outcome": ", ".join(sorted({trial["outcome"] for trial in found})),
        "rounds": str(len(found)),
    }


def _ratio(found: list[dict[str, Any]], own: list[dict[str, Any]]) -> str:
    """How many times as fast, and whether the times leave open which is the faster."""
    speed, own_speed = _speed(found), _speed(own)
    if speed is None or own_speed is None:
        return "–"
    timing, own_timing = _per_image(found), _per_image(own)
    is_open = (
        found is not own
        and timing is not None
        and own_timing is not None
        and timing.quartiles.overlaps(own_timing.quartiles)
    )
    return f"{speed / own_speed:.2f}{', within the spread' if is_open else ''}"


def _quartiles_text(quartiles: Quartiles) -> str:
    return f"{quartile_rates(quartiles, 1)}{', unsteady' if quartiles.is_unsteady else ''}"


def _speed(found: list[dict[str, Any]]) -> float | None:
    timing = _per_image(found)
    return None if timing is None else 1 / timing.quartiles.median_seconds


def _per_image(found: list[dict[str, Any]]) -> StepTiming | None:
    """The times of all rounds together, seconds of an update divided by its images."""
    readings = [_MEASURED.validate_python(one["reading"]) for one in found if one["reading"]]
    seconds = [second for reading in readings for second in reading.step_seconds]
    if not seconds:
        return None
    candidate = found[0]["candidate"]
    images = candidate["micro_batch"] * candidate["accumulation"]
    own = [one.card_seconds for one in readings if one.card_seconds is not None]
    return StepTiming(
        updates=len(seconds),
        processes=len(readings),
        quartiles=quartiles_of([second / images for second in seconds]),
        card_seconds=min(own) / images if own else None,
        launches=next((one.launches for one in readings if one.launches is not None), None),
    )


class _Timed(BaseModel):
    """What the tables need of one timed contestant."""

    name: str
    by: str
    candidate: Candidate
    outcome: Outcome
    reading: Measured | None


class _TimedFile(BaseModel):
    """The contestants of one file, as `throughput` writes it."""

    trials: list[_Timed]


def read_throughput(folder: Path) -> list[dict[str, Any]]:
    """The timed contestants under a folder. Raises `UserError` for a file that holds none."""
    files = [read_as(_TimedFile, path) for path in sorted(folder.rglob("throughput.json"))]
    return [one.model_dump() for file in files for one in file.trials]
