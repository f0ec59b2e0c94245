"""Ctrl-C and SIGTERM, answered from a thread, whatever the main thread is busy with.

    a first signal    ends the process at once, with one sentence, where nothing would be lost;
                      inside `StopRequest.finishing` a line says what is being finished, and the
                      loop reads the wish between two pieces of work
    a second one      ends the process at once

To end at once is to do what `undone_at_once` asks for (children ended, temporary files deleted) and
to leave: no exception is thrown into code that is not made for it. The interpreter's own handlers
run in the main thread only, after a kernel or an import that may take a minute; so a thread reads
the signals where the interpreter writes them (`signal.set_wakeup_fd`).
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from distill.base.errors import Interrupted

ASKING = (signal.SIGINT, signal.SIGTERM)
KEPT = "What was finished is kept."

ONE_WISH_SECONDS = 0.25
"""Signals that come this close count as one: some programs signal a child and then its group."""

ONE_WISH_ELSEWHERE_SECONDS = 5.0
"""The same, where a launcher signals each of several processes."""

UNDOING_SECONDS = 3.0
"""The longest that cleaning up may keep the process."""

_leaving = threading.Event()
_untold = threading.Event()
_undo: dict[object, Callable[[], object]] = {}


@dataclass
class StopRequest:
    """The wish to stop. `number` is the signal that asked, or `None`.

    `kept` says what is safe when it ends.
    """

    number: int | None = None
    kept: str = KEPT
    asked_at: float = 0.0
    _finishing: list[Callable[[], str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def raise_if_asked(self, saved: str) -> None:
        """Stop here, saying what was saved."""
        if self.number is not None:
            raise Interrupted(
                self.number, f"Stopped by {signal.Signals(self.number).name}. {saved}"
            )

    def asked_elsewhere(self, number: int) -> None:
        """Take the wish that another process of the same run was told of.

        The same wish may still come here; it is none to end at once.
        """
        with self._lock:
            if self.number is None:
                self.number, self.asked_at = number, time.monotonic() + ONE_WISH_ELSEWHERE_SECONDS

    @contextmanager
    def finishing(self, what: Callable[[], str]) -> Iterator[None]:
        """Let a first signal inside wait for the next look at `number`, or for the end of this.

        `what` says what is being finished and how long that may take.
        """
        self._finishing.append(what)
        try:
            yield
        finally:
            with self._lock:
                self._finishing.pop()
        self.raise_if_asked(self.kept)

    def answered(self, number: int) -> bool:
        """Take a signal; false where it does not leave time to finish anything."""
        with self._lock:
            now = time.monotonic()
            if self.number is not None:
                return now - self.asked_at < ONE_WISH_SECONDS
            if not self._finishing:
                return False
            words = self._finishing[-1]()
            self.number, self.asked_at = number, now
        _tell(f"{_name(number)}: finishing {words}; once more ends at once.")
        return True


class _Answering:
    """The handlers in place and the thread that listens. `request` is what a first signal asks."""

    def __init__(self) -> None:
        self.request = StopRequest()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)

    def begin(self) -> None:
        # A handler in Python makes the interpreter write to the pipe; it has nothing to do itself.
        self.handlers = {number: signal.signal(number, _do_nothing) for number in ASKING}
        self._pipe = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread.start()

    def end(self) -> None:
        signal.set_wakeup_fd(self._pipe)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    def _listen(self) -> None:
        while number := os.read(self._reading, 1):
            if number[0] in ASKING and not self.request.answered(number[0]):
                leave(number[0], self.request)


_answering: _Answering | None = None


@contextmanager
def signals_answered_to_the_end() -> Iterator[None]:
    """The same for a whole process: when the work is done, its status can't change any more.

    The interpreter takes its modules apart then, which may take a second.
    """
    with signals_answered():
        try:
            yield
        finally:
            if _answering is not None:
                _answering.handlers = dict.fromkeys(ASKING, signal.SIG_IGN)


@contextmanager
def signals_answered() -> Iterator[None]:
    """Answer SIGINT and SIGTERM while inside; inside another one, and in a thread, do nothing."""
    global _answering
    if _answering is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _answering = _Answering()
    _answering.begin()
    try:
        yield
    finally:
        _answering.end()
        _answering = None


@contextmanager
def stop_on_signals(kept: str = KEPT) -> Iterator[StopRequest]:
    """A wish to stop that a loop can read, for as long as it is inside."""
    with signals_answered():
        request = StopRequest(kept=kept)
        if _answering is None:  # not the main thread: nobody can ask
            yield request
            return
        before, _answering.request = _answering.request, request
        try:
            yield request
        finally:
            _answering.request = before


@contextmanager
def signals_untold() -> Iterator[None]:
    """Answer signals without a word while inside: another process of the run tells of them."""
    _untold.set()
    try:
        yield
    finally:
        _untold.clear()


def default_signals() -> None:
    """Let signals end this process as they end any: a worker that was forked has our handlers."""
    signal.set_wakeup_fd(-1)
    for number in ASKING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)


@contextmanager
def undone_at_once(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` if the process is ended at once while inside; else nothing is done."""
    key = object()
    _undo[key] = undo
    try:
        yield
    finally:
        del _undo[key]


def halt_if_leaving() -> None:
    """Wait for the end if the process is being ended: what a child was ended for is no result."""
    if _leaving.is_set():
        threading.Event().wait()


def leave(number: int, request: StopRequest) -> NoReturn:
    """End this process at once, with what it began."""
    _leaving.set()
    in_time = threading.Timer(UNDOING_SECONDS, os._exit, [128 + number])
    in_time.daemon = True
    in_time.start()
    for undo in reversed(list(_undo.values())):
        with contextlib.suppress(Exception):
            undo()
    at_once = " at once" if request.number is not None else ""
    _tell(f"Error: Stopped{at_once} by {_name(number)}. {request.kept}")
    os._exit(128 + number)


def _tell(line: str) -> None:
    """One line on standard error, below a bar that may be there; the main thread may be writing."""
    if _untold.is_set():
        return
    with contextlib.suppress(OSError):
        clear = "\r\033[K" if os.isatty(2) else ""
        os.write(2, f"{clear}{line}\n".encode(errors="surrogateescape"))


def _name(number: int) -> str:
    return signal.Signals(number).name


def _do_nothing(number: int, frame: object) -> None:
    """Nothing: the thread has it."""
