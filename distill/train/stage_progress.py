"""The progress of a stage for a person: one bar, or a few quiet lines without a terminal.

Prints to stderr; stdout is for results.
"""

import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

from distill.base.units import bytes_text, duration, rate
from distill.spec.candidate import Criterion
from distill.step.memory import Usage
from distill.train.criterion import score_text
from distill.train.run_folder import TIME_PARTS, EpochRow

QUIET_LINES = 5
SHOWN_EVERY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class BarState:
    """The values the bar shows: place from 1, means of the epoch so far, memory."""

    epoch: int
    update: int
    loss: float
    accuracy: float
    images_per_second: float
    usage: Usage | None
    limit_bytes: int | None


class StageProgress:
    """The progress of one stage, counted in optimizer updates.

    `later_updates` are those of the stages after it, for the time that the chain still takes.
    """

    def __init__(
        self, label: str, *, epochs: int, updates_per_epoch: int, done: int, later_updates: int
    ) -> None:
        self.label = label
        self.epochs, self.updates_per_epoch = epochs, updates_per_epoch
        self.later_updates = later_updates
        self.interactive = sys.stderr.isatty()
        self.began = time.perf_counter()
        self.began_at = done
        self.done = done
        self.shown_at = -1.0
        self.bar = tqdm(
            total=epochs * updates_per_epoch,
            initial=done,
            desc=label,
            unit="update",
            disable=not self.interactive,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc} {percentage:3.0f} % |{bar:12}| {postfix}",
        )

    def updated(self) -> bool:
        """Count one more update; returns true when it is time to show it."""
        self.done += 1
        now = time.perf_counter()
        if not self.interactive or now - self.shown_at < SHOWN_EVERY_SECONDS:
            return False
        self.shown_at = now
        return True

    def show(self, state: BarState) -> None:
        """Bring the bar up to date."""
        self.bar.n = self.done
        self.bar.set_postfix_str(self.line(state), refresh=True)

    def line(self, state: BarState) -> str:
        """The bar's text."""
        stage_left, chain_left = self.seconds_left()
        left = f"{duration(stage_left)} left"
        if self.later_updates:
            left += f", about {duration(chain_left)} for the chain"
        return (
            f"epoch {state.epoch}/{self.epochs}, step {state.update}/{self.updates_per_epoch}, "
            f"loss {state.loss:.3f}, accuracy {100 * state.accuracy:.1f} %, "
            f"{rate(state.images_per_second)} images/s{_memory(state)}, {left}"
        )

    def an_update(self) -> str:
        """The work that a wish to stop waits for, with the time that it took so far."""
        here = self.done - self.began_at
        each = f", about {duration((time.perf_counter() - self.began) / here)}" if here else ""
        return f"an update of {self.label}{each}, and saving it"

    def seconds_left(self) -> tuple[float | None, float | None]:
        """Seconds left of the stage and of the chain, if later updates take as long as these."""
        here = self.done - self.began_at
        if not here:
            return None, None
        each = (time.perf_counter() - self.began) / here
        stage = (self.epochs * self.updates_per_epoch - self.done) * each
        return stage, stage + self.later_updates * each

    def epoch(self, row: EpochRow, criterion: Criterion) -> None:
        """Tell the end of an epoch, where there is no bar."""
        every = max(1, self.epochs // QUIET_LINES)
        if not self.interactive and (row.epoch % every == 0 or row.epoch == self.epochs):
            left = self.seconds_left()[0]
            rest = f", {duration(left)} left" if left else ""
            self.say(
                f"epoch {row.epoch}/{self.epochs}: loss {row.train_loss:.3f}, "
                f"validation {score_text(row, criterion)}, "
                f"{duration(row.epoch_time_sec)} an epoch{_parts(row)}{rest}"
            )

    def say(self, line: str) -> None:
        """Print one line, above the bar."""
        tqdm.write(f"  {self.label}  {line}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def _parts(row: EpochRow) -> str:
    """The parts of an epoch's time, as far as they are known."""
    parts = {title: getattr(row, f"{name}_time_sec") for name, title in TIME_PARTS.items()}
    known = [f"{title} {duration(part)}" for title, part in parts.items() if part is not None]
    return f" ({', '.join(known)})" if known else ""


def _memory(state: BarState) -> str:
    if state.usage is None:
        return ""
    limit = f" of {bytes_text(state.limit_bytes)}" if state.limit_bytes else ""
    now, peak = state.usage.reserved_bytes, state.usage.peak_reserved_bytes
    return f", {bytes_text(now)} now, peak {bytes_text(peak)}{limit}"
