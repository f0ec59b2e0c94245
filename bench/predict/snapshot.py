"""A predicted history as PyTorch's own snapshot of memory, for its viewer and other tools.

The keys are those of `torch.cuda.memory._snapshot` (2.11), but for the times of events, which a
prediction has none of. Each event has a `category`, its owner, by which the viewer colours; its
frames name the op, the module, the phase and the owner. Nothing in the file is more than plain
values, so that whoever loads it need trust no code.
"""

import pickle
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench.predict.allocator_history import AllocatorHistory, allocator_history
from bench.predict.text import PART_TITLES
from bench.simulate.allocator.blocks import AddressOf, Block, increasing_address
from bench.simulate.program.program import Ints, Program
from distill.base.files import write_whole
from distill.base.units import MIB
from distill.report.tables import OWNER_TITLES
from distill.spec.candidate import Allocator
from distill.spec.file_values import OWNERS

Frames = list[dict[str, str | int]]

PROTOCOL = 4
"""The last form of pickles that the viewer reads (MemoryViz.js, unpickle)."""

FIRST_ADDRESS = 2**40
BETWEEN_SEGMENTS = 32 * MIB
"""Addresses are made up: the viewer's numbers are exact up to 2⁵³, and it takes segments that touch
for one."""

NO_OWNER = "unknown"
"""The category of what belongs to nobody. The viewer needs one of that name (MemoryViz.js,
annotate_snapshot)."""


def write_snapshot(path: Path, snapshot: dict[str, Any]) -> None:
    """Write a snapshot whole, as `torch.cuda.memory._dump_snapshot` does."""
    write_whole(path, lambda file: file.write(pickle.dumps(snapshot, protocol=PROTOCOL)))


def predicted_snapshot(
    program: Program,
    sizes: Ints,
    kind: Allocator,
    *,
    device_bytes: int | None = None,
    address_of: AddressOf = increasing_address,
) -> dict[str, Any]:
    """Every event from building to the evaluation, and the segments as they are at the end."""
    history = allocator_history(
        program, sizes, kind, device_bytes=device_bytes, address_of=address_of
    )
    place, frames_of = _places(history), _frames_of(program)
    return {
        "segments": _segments(history, kind, place, frames_of),
        "device_traces": [_trace(program, history, place, frames_of)],
        "allocator_settings": {
            "PYTORCH_CUDA_ALLOC_CONF": f"expandable_segments:{kind == 'expandable'}",
            "max_split_size": -1,
            "garbage_collection_threshold": 0.0,
            "expandable_segments": kind == "expandable",
        },
        "external_annotations": [],
    }


def _trace(
    program: Program,
    history: AllocatorHistory,
    place: Callable[[int], int],
    frames_of: Callable[[int], Frames],
) -> list[dict[str, Any]]:
    """Events as PyTorch writes them. A free has the frames of what is freed."""
    return [
        {
            "action": event.action,
            "addr": place(event.address),
            "size": event.size_bytes,
            "stream": 0,
            "compile_context": "N/A",
            "user_metadata": "predicted",
            "frames": frames_of(event.birth),
            "category": NO_OWNER
            if event.action.startswith("segment")
            else OWNERS[program.owner_of[event.birth]],
        }
        for event in history.events
    ]


def _segments(
    history: AllocatorHistory,
    kind: Allocator,
    place: Callable[[int], int],
    frames_of: Callable[[int], Frames],
) -> list[dict[str, Any]]:
    """Segments by address, each with its blocks, those in use and those that are free."""
    blocks: list[tuple[Block, Frames]] = [(block, []) for block in history.free]
    blocks += [(block, frames_of(birth)) for birth, block in history.in_use.items()]
    blocks.sort(key=lambda pair: pair[0].address)
    starts = sorted(history.segments)
    inside: dict[int, list[dict[str, Any]]] = {start: [] for start in starts}
    for block, frames in blocks:
        start = starts[bisect_right(starts, block.address) - 1]
        inside[start].append(
            {
                "address": place(block.address),
                "size": block.size,
                "requested_size": block.requested,
                "state": "inactive" if block.is_free else "active_allocated",
                "frames": frames,
            }
        )
    return [_segment(history, kind, place, start, inside[start]) for start in starts]


def _segment(
    history: AllocatorHistory,
    kind: Allocator,
    place: Callable[[int], int],
    start: int,
    blocks: list[dict[str, Any]],
) -> dict[str, Any]:
    held = history.segments[start]
    used = [block for block in blocks if block["state"] != "inactive"]
    in_use_bytes = sum(block["size"] for block in used)
    return {
        "device": 0,
        "address": place(start),
        "total_size": held.size_bytes,
        "allocated_size": in_use_bytes,
        "active_size": in_use_bytes,
        "requested_size": sum(block["requested_size"] for block in used),
        "stream": 0,
        "segment_type": "small" if held.is_small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": kind == "expandable",
        "frames": [],
        "blocks": blocks,
    }


def _frames_of(program: Program) -> Callable[[int], Frames]:
    """The frames of a birth, innermost first; equal ones are one object, written once."""

    @cache
    def frames(op: str, module: str, span: int, owner: int) -> Frames:
        there = program.spans[span]
        of = f"{there.phase}, {PART_TITLES[there.part]}"
        return [
            {"name": op or "no op", "filename": module or "no module", "line": 0},
            {"name": OWNER_TITLES[OWNERS[owner]], "filename": of, "line": 0},
        ]

    def of_birth(birth: int) -> Frames:
        return frames(
            str(program.op[birth]),
            str(program.module[birth]),
            int(program.span_of[birth]),
            int(program.owner_of[birth]),
        )

    return of_birth


def _places(history: AllocatorHistory) -> Callable[[int], int]:
    """The model's addresses as ones that fit, in the same order and as far apart in a segment."""
    starts = sorted(history.segments)
    bases, base = [], FIRST_ADDRESS
    for start in starts:
        bases.append(base)
        base += history.segments[start].size_bytes + BETWEEN_SEGMENTS

    def place(address: int) -> int:
        index = bisect_right(starts, address) - 1
        return bases[index] + address - starts[index]

    return place
