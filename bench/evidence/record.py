"""The recordings of `bench evidence`: each configuration in a child, under the allocator's history.

The file is written anew after every child, so that what was done is kept whatever comes next.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import ValidationError

from bench.card.targets import target_like, target_named
from bench.evidence.plan import Cell
from bench.evidence.recording import Recording, RecordingSet, write_recordings
from bench.evidence.session import CHILD_SECONDS, Session
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import Runner, run_document, why_it_ended
from bench.measure.jobs import Job, job_document
from bench.trials.digests import prediction_digest
from distill.base.errors import RunFailed
from distill.base.units import MIB
from distill.device.cores import available_cores
from distill.spec.candidate import Allocator

RECORDING_CHILD = "bench.evidence.recording_child"
AT_ONCE = 4
"""Recordings side by side where the card is large: peaks are a process's own, times are not."""

MAX_FILE_BYTES = 16 * MIB


def record_all(session: Session, cells: Sequence[Cell], name: str, *, history: bool) -> str:
    """Record each cell in a child; the file is written anew as each of them ends."""
    path = session.request.out / name
    found: dict[int, Recording] = {}
    failed: dict[int, str] = {}
    for number, recording in _recordings(session, cells):
        words = recording if isinstance(recording, str) else None
        if not isinstance(recording, str):
            bare = recording.model_copy(update={"history": None})
            found[number] = recording if history else bare
            words = _write(path, session, found, number)
        if words is not None:
            failed[number] = f"{cells[number].candidate.student.name}: {words}"
        session.count.done = len(found)
    reasons = [failed[number] for number in sorted(failed)]
    if not found:
        raise RunFailed(f"None could be recorded. {'; '.join(reasons[:3])}")
    words = "; ".join([f"{len(found)} of {len(cells)} recorded", *reasons])
    if failed:
        raise RunFailed(f"{words}.")
    return words


def _write(path: Path, session: Session, found: dict[int, Recording], newest: int) -> str | None:
    """Write the file, in the plan's order; what of the newest recording it has no room for."""

    def write() -> bool:
        ordered = [found[number] for number in sorted(found)]
        golden = _recording_set(session, ordered)
        return write_recordings(path, golden, at_most_bytes=MAX_FILE_BYTES)

    if write():
        return None
    found[newest] = found[newest].model_copy(update={"history": None})
    if write():
        return f"its history would make the file larger than {MAX_FILE_BYTES // MIB} MiB"
    del found[newest]
    return f"it would make the file larger than {MAX_FILE_BYTES // MIB} MiB"


def _recordings(session: Session, cells: Sequence[Cell]) -> Iterator[tuple[int, Recording | str]]:
    """The number of each cell and its recording, or why there is none, as each of them ends."""
    at_once = AT_ONCE if session.is_large else 1
    with (
        _Recorders(at_once, max(1.0, session.left())) as recorders,
        ThreadPoolExecutor(at_once) as pool,
    ):
        numbers = {
            pool.submit(_recording, session, cell, recorders): number
            for number, cell in enumerate(cells)
        }
        try:
            for ended in as_completed(numbers):
                yield numbers[ended], ended.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # else a defect would wait for all


class _Recorders:
    """Fork servers, as many of each allocator as record side by side.

    PyTorch reads the allocator's variable when it is loaded, so one server serves one allocator.
    """

    def __init__(self, at_once: int, start_seconds: float) -> None:
        self._threads = max(1, available_cores() // at_once)
        self._start_seconds = start_seconds
        self._lock = threading.Lock()
        self._idle: dict[Allocator, list[ForkServer]] = defaultdict(list)
        self._all = ExitStack()

    def __enter__(self) -> "_Recorders":
        return self

    def __exit__(self, *error: object) -> None:
        self._all.close()

    @contextmanager
    def one(self, allocator: Allocator) -> Iterator[Runner]:
        """A server that nobody else has meanwhile."""
        with self._lock:
            idle = self._idle[allocator]
            server = idle.pop() if idle else self._new(allocator)
        try:
            yield server
        finally:
            idle.append(server)

    def _new(self, allocator: Allocator) -> ForkServer:
        server = ForkServer(
            allocator=allocator,
            module=RECORDING_CHILD,
            threads=self._threads,
            start_seconds=self._start_seconds,
        )
        return self._all.enter_context(server)


def _recording(session: Session, cell: Cell, recorders: _Recorders) -> Recording | str:
    if session.left() < 10 or session.stop.number is not None:
        return "no time left"
    job = Job(
        candidate=cell.candidate,
        pins=session.pins(cell.candidate, cell.allocator),
        device=session.device,
        cap_bytes=session.cap_bytes,
    )
    limit = min(CHILD_SECONDS, session.left())
    with recorders.one(cell.allocator) as runner:
        ended, document = run_document(job_document(job), runner, limit)
    if document is None:
        return why_it_ended(ended, limit)
    try:
        return Recording.model_validate(document)
    except ValidationError as error:
        return f"no recording ({error.error_count()} fields are wrong)"


def _recording_set(session: Session, recordings: Iterable[Recording]) -> RecordingSet:
    card = session.request.card
    return RecordingSet(
        command=session.request.command,
        target=target_named("rtx4050") if card is None else target_like(card),
        driver=None if card is None else card.driver,
        torch=version("torch"),
        timm=version("timm"),
        cuda=torch.version.cuda,
        cudnn=_cudnn_version(),
        code=prediction_digest(),
        recordings=tuple(recordings),
    )


def _cudnn_version() -> int | None:
    """cuDNN's version of this torch, told without touching the device."""
    cudnn = getattr(torch._C, "_cudnn", None)
    return None if cudnn is None else int(cudnn.getVersionInt())
