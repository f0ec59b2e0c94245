"""Work shared out among processes that end with this one.

The standard library's pool takes the end of a worker for a defect, waits for work that nobody wants
any more, and leaves semaphores when it is not closed. Here a worker is a process and a pipe.
"""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from distill.base.children import raise_if_asked_to_stop
from distill.base.errors import RunFailed
from distill.base.parent_death import end_worker_with_parent
from distill.base.signals import ASKING, default_signals, halt_if_leaving, undone_at_once

Item = TypeVar("Item")
Result = TypeVar("Result")

GROUP_SECONDS = 0.5
"""A signal that ended a worker may have gone to the whole group, and is answered meanwhile."""


def map_in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    processes: int,
    prepare: Callable[[], object],
    kept: str,
) -> Iterator[tuple[int, Result]]:
    """`work` on each item in one of so many processes; an item's place and its result, as done.

    `prepare` is called once in each process. What `work` raises is raised here. Raises
    `Interrupted` when a worker was asked to stop, `RunFailed` when one ended otherwise; `kept` says
    what is safe then.
    """
    waiting = list(reversed(list(enumerate(items))))
    with ExitStack() as stack:
        busy: dict[object, _Worker] = {}
        for _ in range(min(processes, len(items))):
            worker = stack.enter_context(_worker(prepare, kept))
            busy[worker.pipe] = worker
            worker.begin(work, *waiting.pop())
        while busy:
            for pipe in wait([worker.pipe for worker in busy.values()]):
                worker = busy[pipe]
                done = worker.place, worker.result()
                if waiting:
                    worker.begin(work, *waiting.pop())
                else:
                    del busy[pipe]
                yield done


class _Worker:
    """One process, and the pipe on which it is asked and answers."""

    def __init__(self, process: Any, pipe: Connection, kept: str) -> None:
        self.process, self.pipe, self.kept = process, pipe, kept
        self.place = 0

    def begin(self, work: Callable[[Any], object], place: int, item: object) -> None:
        self.place = place
        with contextlib.suppress(BrokenPipeError):  # its end is told by `result`
            self.pipe.send((work, item))

    def result(self) -> Any:
        try:
            value, error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._raise_its_end()
        if error is not None:
            raise error
        return value

    def _raise_its_end(self) -> None:
        halt_if_leaving()
        self.process.join(GROUP_SECONDS)
        halt_if_leaving()
        status = self.process.exitcode
        raise_if_asked_to_stop(status, self.kept)
        by = f" by {signal.Signals(-status).name}" if status and status < 0 else ""
        raise RunFailed(
            f"A process of this command was ended{by}: the computer's memory may be full. "
            f"{self.kept}"
        )


@contextmanager
def _worker(prepare: Callable[[], object], kept: str) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    resource_tracker.ensure_running()  # which would else unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)  # a worker is born deaf: no traceback
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    try:
        with undone_at_once(process.kill):
            here.send(prepare)
            yield _Worker(process, here, kept)
    finally:
        process.kill()
        process.join()
        here.close()
        halt_if_leaving()


def _serve(pipe: Connection) -> None:
    """Do what is asked until nobody is there to ask."""
    default_signals()
    end_worker_with_parent()
    pipe.recv()()  # before this nothing large is loaded, so that the two above come at once
    with contextlib.suppress(EOFError):
        while True:
            work, item = pipe.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = work(item), None
            except Exception as error:  # noqa: BLE001 - raised by who asked
                error.add_note(f"In process {os.getpid()}:\n{traceback.format_exc()}")
                answer = None, error
            pipe.send(answer)
