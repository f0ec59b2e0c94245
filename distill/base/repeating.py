"""A question asked again and again beside the work. Decides nothing, and ends with the work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(ask: Callable[[], None], *, every_seconds: float) -> Iterator[None]:
    """Call `ask` from a thread each `every_seconds` while inside."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(every_seconds):
            ask()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
