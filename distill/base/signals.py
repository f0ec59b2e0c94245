"""Ctrl-C and SIGTERM as a wish that the loop reads between two updates.

A second Ctrl-C is not a wish any more: it interrupts at once.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from distill.base.errors import Interrupted


@dataclass
class StopRequest:
    """`number` is the signal that asked, or `None`."""

    number: int | None = None

    def raise_if_asked(self, saved: str) -> None:
        """Stop here, saying what was saved."""
        if self.number is not None:
            raise Interrupted(
                self.number, f"Stopped by {signal.Signals(self.number).name}. {saved}"
            )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM while inside."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.number = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
