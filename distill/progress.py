"""What a person sees while a stage trains: one bar, or a few quiet lines without a terminal.

Prints to stderr; stdout is for results.
"""

import sys

from tqdm import tqdm

from distill.runs import EpochRow
from distill.units import duration, rate

QUIET_LINES = 5


class StageProgress:
    """The progress of one stage, counted in optimizer updates."""

    def __init__(self, label: str, *, epochs: int, updates_per_epoch: int, done: int) -> None:
        self.label = label
        self.epochs = epochs
        self.interactive = sys.stderr.isatty()
        self.bar = tqdm(
            total=epochs * updates_per_epoch,
            initial=done,
            desc=label,
            unit="update",
            disable=not self.interactive,
            dynamic_ncols=True,
            leave=False,
        )

    def update(self, *, loss: float, images_per_second: float, memory: str) -> None:
        """One more update is done."""
        self.bar.set_postfix_str(f"loss {loss:.3f}, {rate(images_per_second)} img/s{memory}", False)
        self.bar.update()

    def epoch(self, row: EpochRow) -> None:
        """An epoch is done."""
        every = max(1, self.epochs // QUIET_LINES)
        if not self.interactive and (row.epoch % every == 0 or row.epoch == self.epochs):
            self.say(
                f"epoch {row.epoch}/{self.epochs}: loss {row.train_loss:.3f}, "
                f"validation accuracy {100 * row.val_accuracy:.2f} %, "
                f"{duration(row.epoch_time_sec)} an epoch"
            )

    def say(self, line: str) -> None:
        """One line, above the bar."""
        tqdm.write(f"  {self.label}  {line}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()
