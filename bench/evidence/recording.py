"""Recordings: what PyTorch's own allocator did on a card, and whether our model of it does too.

Pure. A file is gzipped JSON of several recordings made in one run on one card; it names card,
driver and versions and nothing else of the machine. The allocator half of a prediction must
reproduce every segment, the order of every address and every total of a recording, to the byte.

Refuses files of another schema. What is `imitated` (made without a GPU, from the model itself)
proves the machinery and is evidence for nothing.
"""

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from distill.base.errors import UserError
from distill.base.files import write_whole
from distill.base.reading import MOST_BYTES, parsed_json, read_plain
from distill.base.units import bytes_text
from distill.spec.candidate import Candidate
from distill.spec.file_values import Bytes, ReadPins
from distill.spec.frozen import FrozenModel
from distill.spec.profile import Target
from distill.spec.validated import document_as, reason_of
from distill.step.step import Phase

SCHEMA = 2

ACTIONS = (
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
)
"""What the allocator writes down of itself; its snapshots and failures are left out."""

STATISTICS = (
    "requested_bytes.all.peak",
    "allocated_bytes.all.peak",
    "reserved_bytes.all.peak",
    "requested_bytes.all.allocated",
    "allocated_bytes.all.allocated",
    "reserved_bytes.all.allocated",
    "allocation.all.allocated",
    "allocation.all.freed",
    "num_alloc_retries",
)
"""What is kept of `torch.cuda.memory_stats`: peaks, and totals since the process began."""


class History(FrozenModel):
    """Events in order, a column each. `addresses` are ranks among all addresses of the history."""

    actions: tuple[int, ...]
    addresses: tuple[int, ...]
    sizes: tuple[Bytes, ...]
    streams: tuple[int, ...]

    @model_validator(mode="after")
    def _has_rows(self) -> "History":
        columns = (self.actions, self.addresses, self.sizes, self.streams)
        if len({len(column) for column in columns}) > 1:
            raise ValueError("its columns differ in length")
        if not set(self.actions) <= set(range(len(ACTIONS))):
            raise ValueError("it holds an action that is not known")
        return self

    def __len__(self) -> int:
        return len(self.actions)

    def of(self, *names: str) -> list[int]:
        """The positions of the events with these actions."""
        wanted = {ACTIONS.index(name) for name in names}
        return [index for index, action in enumerate(self.actions) if action in wanted]


class Recording(FrozenModel):
    """One candidate from building to evaluation, in a fresh process.

    `marks` are the phases of the step, each with the number of allocations before it.
    """

    source: Literal["recorded", "imitated"]
    candidate: Candidate
    pins: ReadPins
    marks: tuple[tuple[Phase, int], ...]
    statistics: dict[str, Bytes]
    history: History | None

    @model_validator(mode="after")
    def _has_peaks(self) -> "Recording":
        lacking = [name for name in STATISTICS[:3] if name not in self.statistics]
        if lacking:
            raise ValueError(f"statistics lack {lacking[0]}")
        return self


class RecordingSet(FrozenModel):
    """The recordings of one run on one card."""

    schema_version: Literal[2] = 2
    command: str
    target: Target
    driver: str | None
    torch: str
    timm: str
    cuda: str | None
    cudnn: int | None
    code: str
    recordings: tuple[Recording, ...]


def write_recordings(path: Path, golden: RecordingSet, *, at_most_bytes: int | None = None) -> bool:
    """Write a file whole; the same recordings give the same bytes.

    One that would have more than `at_most_bytes` is not written. Returns whether it was.
    """
    packed = gzip.compress(json.dumps(golden.model_dump(mode="json")).encode(), mtime=0)
    if at_most_bytes is not None and len(packed) > at_most_bytes:
        return False
    write_whole(path, lambda stream: stream.write(packed))
    return True


def read_recordings(path: Path) -> RecordingSet:
    """Read a file. Raises `UserError` for what is none, or one of another schema."""
    try:
        with gzip.open(io.BytesIO(read_plain(path))) as packed:
            text = packed.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"unpacked it is larger than {bytes_text(MOST_BYTES)}")
        document = parsed_json(text)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"Cannot read golden traces from {path}: {reason_of(error)}.") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA:
        raise UserError(
            f"{path} has schema version {version!r}; this program reads {SCHEMA}. "
            "Record it again on a GPU: bench evidence."
        )
    return document_as(RecordingSet, document, f"{path}", "Record it again.")


def stripped(trace: Sequence[dict[str, Any]]) -> History:
    """A device's trace of `torch.cuda.memory._snapshot` without what names code or machine."""
    events = [event for event in trace if event["action"] in ACTIONS]
    ranks = {address: rank for rank, address in enumerate(sorted({e["addr"] for e in events}))}
    streams = {stream: n for n, stream in enumerate(dict.fromkeys(e["stream"] for e in events))}
    return History(
        actions=tuple(ACTIONS.index(event["action"]) for event in events),
        addresses=tuple(ranks[event["addr"]] for event in events),
        sizes=tuple(event["size"] for event in events),
        streams=tuple(streams[event["stream"]] for event in events),
    )
