"""The host's share of an update: whether the card waits for it, and how much it has to launch.

Both are read in updates of their own, after everything that is timed, so that no time pays for
them. CUDA only.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, supported_activities

from distill.step.memory import synchronize
from distill.step.step import Phase, no_mark

STALL_SECONDS = 0.1
"""The longest that the card is held up at a time: a card with a screen must not stand still."""

CALIBRATION_CYCLES = 1_000_000

Update = Callable[[], object]


class Marked(Protocol):
    """Something that says of each phase of an update that it begins."""

    mark: Callable[[Phase], None]


class Stalls:
    """Holds the card up as each phase begins, so that it finds the phase's work waiting.

    While the card sleeps the host queues what follows; then the card does it at its own pace. What
    it takes from the end of a sleep to the end of the phase is so its own time. Where the host must
    wait for the card within a phase, what it queues after that is counted with the card's waiting:
    the sum is at most too large.
    """

    def __init__(self, cycles: int) -> None:
        self._cycles = cycles
        self._begun: list[torch.cuda.Event] = []
        self._ended: list[torch.cuda.Event] = []

    def begin(self, phase: Phase) -> None:
        """End the phase before, if there is one, and hold the card up."""
        if self._begun:
            self.end()
        torch.cuda._sleep(self._cycles)
        self._begun.append(_event())

    def end(self) -> None:
        """The last phase's work is queued."""
        self._ended.append(_event())

    def seconds(self) -> float:
        """The card's own time, when it has done everything."""
        pairs = zip(self._begun, self._ended, strict=True)
        return sum(float(begun.elapsed_time(ended)) for begun, ended in pairs) / 1000


def read_card_seconds(
    step: Marked, update: Update, device: torch.device, stall_seconds: float
) -> float | None:
    """The card's own time for one update; `None` where its events tell no time.

    `stall_seconds` should be what the host takes to queue a phase, or more.
    """
    rate = _cycles_per_second(device)
    if rate is None:
        return None
    stalls = Stalls(round(rate * min(stall_seconds, STALL_SECONDS)))
    step.mark = stalls.begin
    try:
        update()
    finally:
        step.mark = no_mark
    stalls.end()
    synchronize(device)
    return stalls.seconds()


def count_launches(update: Update, device: torch.device) -> tuple[int | None, str | None]:
    """Kernels, copies and fills that one update has the card do, or `None` and the reason.

    CUPTI counts them, through PyTorch's profiler; it takes seconds to start.
    """
    if ProfilerActivity.CUDA not in supported_activities():
        return None, "this PyTorch has no profiler for the card"
    try:
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
            update()
            synchronize(device)
        found = sum(is_launch(event) for event in seen.events())
    except RuntimeError as error:  # also where memory ends: CUPTI takes some, the update fitted
        return None, f"the profiler: {str(error).splitlines()[0]}"
    return (found, None) if found else (None, "CUPTI told of no launch")


def is_launch(event: FunctionEvent) -> bool:
    """True for what the card did; the span of an optimizer's step on it is only a name."""
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation


def _cycles_per_second(device: torch.device) -> float | None:
    """The rate by which the card counts as it sleeps."""
    begun = _event()
    torch.cuda._sleep(CALIBRATION_CYCLES)
    ended = _event()
    synchronize(device)
    milliseconds = begun.elapsed_time(ended)
    return 1000 * CALIBRATION_CYCLES / milliseconds if milliseconds > 0 else None


def _event() -> torch.cuda.Event:
    """An event that the card passes once it has done all that was queued before."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
