"""The progress of a stage for a person: one bar, or without a terminal a line a minute at most.

Prints to stderr; stdout is for results.
"""

import shutil
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
TOLD_EVERY_SECONDS = 60.0
"""Without a terminal; an epoch is told beside."""


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

    `later_updates` are those of the stages after it, for the time that the chain still takes;
    `validated` is the last validation score in words, if there is one already.
    """

    def __init__(
        self,
        label: str,
        *,
        epochs: int,
        updates_per_epoch: int,
        done: int,
        later_updates: int,
        validated: str | None = None,
    ) -> None:
        self.label, self.validated = label, validated
        self.epochs, self.updates_per_epoch = epochs, updates_per_epoch
        self.later_updates = later_updates
        self.interactive = sys.stderr.isatty()
        self.began = time.perf_counter()
        self.began_at = done
        self.done = done
        self.shown_at = -1.0 if self.interactive else self.began
        self.bar = tqdm(
            total=epochs * updates_per_epoch,
            initial=done,
            desc=label,
            unit="update",
            disable=not self.interactive,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc} {bar}",
        )

    def updated(self) -> bool:
        """Count one more update; returns true when it is time to show it."""
        self.done += 1
        now = time.perf_counter()
        every = SHOWN_EVERY_SECONDS if self.interactive else TOLD_EVERY_SECONDS
        if now - self.shown_at < every:
            return False
        self.shown_at = now
        return True

    def show(self, state: BarState) -> None:
        """Bring the bar up to date, or print a line."""
        if not self.interactive:
            self.say(", ".join(self._long(state)))
            return
        self.bar.n = self.done
        self.bar.set_description_str(self.line(state, shutil.get_terminal_size().columns))

    def line(self, state: BarState, width: int) -> str:
        """The bar's text in `width` columns, the bar's own included.

        Where there is little room words are shortened and left out, but never speed, memory and
        the time left.
        """
        share = 100 * self.done / (self.epochs * self.updates_per_epoch)
        whole = " · ".join([f"{self.label} {share:.0f} %", *self._long(state)])
        if len(whole) <= width - 10:
            return whole
        last = [rate(state.images_per_second) + " img/s", *_short_memory(state), self._left()]
        first = [f"epoch {state.epoch}/{self.epochs}", f"train {100 * state.accuracy:.1f}%"]
        if self.validated:
            first.append("val " + self.validated.removeprefix("accuracy ").replace(" %", "%"))
        while first and len(" ".join([f"{self.label} {share:.0f}%", *first, *last])) > width - 2:
            first.pop(0)
        return " ".join([f"{self.label} {share:.0f}%", *first, *last])

    def _long(self, state: BarState) -> list[str]:
        validated = [f"last validation {self.validated}"] if self.validated else []
        chain = self.seconds_left()[1]
        return [
            f"epoch {state.epoch}/{self.epochs}",
            f"step {state.update}/{self.updates_per_epoch}",
            f"training loss {state.loss:.3f}, accuracy {100 * state.accuracy:.1f} %",
            *validated,
            f"{rate(state.images_per_second)} images/s",
            *_memory(state),
            self._left(),
            *([f"about {duration(chain)} for the chain"] if self.later_updates else []),
        ]

    def _left(self) -> str:
        return f"{duration(self.seconds_left()[0])} left"

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
        """Keep the validation score; tell the end of an epoch, where there is no bar."""
        self.validated = score_text(row, criterion)
        every = max(1, self.epochs // QUIET_LINES)
        if not self.interactive and (row.epoch % every == 0 or row.epoch == self.epochs):
            left = self.seconds_left()[0]
            rest = f", {duration(left)} left" if left else ""
            self.shown_at = time.perf_counter()
            self.say(
                f"epoch {row.epoch}/{self.epochs}: training loss {row.train_loss:.3f}, "
                f"validation {self.validated}, "
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


def _memory(state: BarState) -> list[str]:
    if state.usage is None:
        return []
    limit = f" of {bytes_text(state.limit_bytes)}" if state.limit_bytes else ""
    now, peak = state.usage.reserved_bytes, state.usage.peak_reserved_bytes
    return [f"{bytes_text(now)} now, peak {bytes_text(peak)}{limit}"]


def _short_memory(state: BarState) -> list[str]:
    """The peak and the limit, `4.82/4.89 GiB`."""
    if state.usage is None:
        return []
    peak, limit = bytes_text(state.usage.peak_reserved_bytes), bytes_text(state.limit_bytes)
    if state.limit_bytes is None:
        return [peak]
    return [f"{peak.removesuffix(limit[-4:])}/{limit}"]
