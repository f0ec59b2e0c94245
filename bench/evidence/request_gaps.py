"""Requests that only one side has: the card that was recorded, or the prediction.

Pure. The tracing half of a prediction gives requests by phase, with op and module; a recording
gives them by phase, as sizes. Where the two differ they are laid side by side, so that what is
missing is named by the op that it comes after: that op's kernel lacks a row in the table.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from bench.evidence.recording import ACTIONS, Recording
from bench.simulate.program.program import Ints, Program
from distill.report.tables import Row
from distill.step.step import Phase

Side = Literal["not predicted", "not recorded"]


@dataclass(frozen=True)
class Gap:
    """One request that only one side has. `op` and `module` are of it, or of what precedes it."""

    side: Side
    phase: str
    size_bytes: int
    op: str
    module: str


@dataclass(frozen=True)
class _Request:
    size_bytes: int
    op: str
    module: str


def gaps(recording: Recording, program: Program, sizes: Ints) -> list[Gap]:
    """All requests that only one of the two has, phase by phase.

    Raises `ValueError` when the two did not go through the same phases, which no missing row
    explains.
    """
    recorded_phases = [phase for phase, _ in recording.marks]
    predicted_phases: list[Phase] = [span.phase for span in program.spans]
    if recorded_phases != predicted_phases:
        raise ValueError(
            f"the recording went through {len(recorded_phases)} phases, the prediction through "
            f"{len(predicted_phases)}: another step was recorded"
        )
    found: list[Gap] = []
    before = _Request(0, "the start", "")
    for number, (recorded, predicted) in enumerate(
        zip(_recorded(recording), _predicted(program, sizes), strict=True)
    ):
        found += _span_gaps(recorded_phases[number], recorded, predicted, before)
        before = predicted[-1] if predicted else before
    return found


def gap_rows(found: Sequence[Gap]) -> list[Row]:
    """Equal gaps together, the ones with the most bytes first."""
    groups = Counter((gap.side, gap.phase, gap.size_bytes, gap.op) for gap in found)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][2] * item[1], item[0]))
    rows = []
    for (side, phase, size_bytes, op), count in ordered:
        modules = sorted({g.module for g in found if (g.side, g.op) == (side, op) and g.module})
        rows.append(
            {
                "request": side,
                "phase": phase,
                "bytes": f"{size_bytes:,}",
                "times": str(count),
                "op": f"after {op}" if side == "not predicted" else op,
                "module": modules[0] + (" …" if len(modules) > 1 else "") if modules else "",
            }
        )
    return rows


def _recorded(recording: Recording) -> list[list[int]]:
    """Recorded sizes by phase."""
    history = recording.history
    assert history is not None
    sizes = [
        size
        for action, size in zip(history.actions, history.sizes, strict=True)
        if ACTIONS[action] == "alloc"
    ]
    starts = [before for _, before in recording.marks]
    ends = [*starts[1:], len(sizes)]
    return [sizes[start:end] for start, end in zip(starts, ends, strict=True)]


def _predicted(program: Program, sizes: Ints) -> list[list[_Request]]:
    """Predicted requests by phase."""
    by_span: list[list[_Request]] = [[] for _ in program.spans]
    for birth in np.flatnonzero(sizes).tolist():
        request = _Request(int(sizes[birth]), str(program.op[birth]), str(program.module[birth]))
        by_span[int(program.span_of[birth])].append(request)
    return by_span


def _span_gaps(
    phase: str, recorded: list[int], predicted: list[_Request], before: _Request
) -> list[Gap]:
    expected = [request.size_bytes for request in predicted]
    if recorded == expected:
        return []
    found: list[Gap] = []
    for tag, e0, e1, r0, r1 in SequenceMatcher(None, expected, recorded, False).get_opcodes():
        if tag == "equal":
            continue
        near = predicted[e0 - 1] if e0 else before
        found += [
            Gap("not recorded", phase, p.size_bytes, p.op, p.module) for p in predicted[e0:e1]
        ]
        for size in recorded[r0:r1]:
            found.append(Gap("not predicted", phase, size, near.op, near.module))
    return found
