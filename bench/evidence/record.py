"""The recordings of `bench evidence`: each configuration in a child, under the allocator's history.

The file is written anew after every child, so that what was done is kept whatever comes next.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

import torch
from pydantic import ValidationError

from bench.card.targets import target_like, target_named
from bench.evidence.plan import Cell
from bench.evidence.recording import Recording, RecordingSet, write_recordings
from bench.evidence.session import CHILD_SECONDS, Session
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import Runner, run_document, why_it_ended
from bench.measure.jobs import Job, job_document
from bench.trials import prediction_digest
from distill.base.errors import RunFailed
from distill.base.units import MIB
from distill.device.cores import available_cores
from distill.spec.candidate import Allocator

RECORDING_CHILD = "bench.evidence.recording_child"
AT_ONCE = 4
"""Recordings side by side where the card is large: peaks are a process's own, times are not."""

MAX_FILE_BYTES = 16 * MIB


def record_all(session: Session, cells: Sequence[Cell], name: str, *, history: bool) -> str:
    """Record each cell in a child; the file is written anew after every one."""
    path, found, failed = session.request.out / name, [], []
    for cell, recording in _recordings(session, cells):
        if isinstance(recording, str):
            failed.append(f"{cell.candidate.student.name}: {recording}")
            continue
        found.append(recording if history else recording.model_copy(update={"history": None}))
        write_recordings(path, _recording_set(session, found))
    if not found:
        raise RunFailed(f"None could be recorded. {'; '.join(failed[:3])}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RunFailed(f"{path.name} is larger than {MAX_FILE_BYTES // MIB} MiB.")
    words = "; ".join([f"{len(found)} of {len(cells)} recorded", *failed])
    if failed:
        raise RunFailed(f"{words}.")
    return words


def _recordings(session: Session, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Recording | str]]:
    """Each cell with its recording, or with why there is none."""
    at_once = AT_ONCE if session.is_large else 1
    with (
        _Recorders(at_once, max(1.0, session.left())) as recorders,
        ThreadPoolExecutor(at_once) as pool,
    ):
        yield from pool.map(lambda cell: (cell, _recording(session, cell, recorders)), cells)


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
