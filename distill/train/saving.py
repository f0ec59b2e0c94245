"""Epochs saved by a thread of its own, while the next one is trained already.

What is to be written is copied to the CPU first. Nothing counts as saved, and nothing is told,
before it is written: a kill meanwhile leaves what was there, as a kill while writing does.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

from distill.base.errors import RunFailed, UserError
from distill.train.best_weights import drop_superseded, save_best
from distill.train.checkpoint import Position, save_latest
from distill.train.copied_state import copied
from distill.train.run_folder import EpochRow, logged_epochs, write_log
from distill.train.stage_job import StageJob
from distill.train.stage_progress import StageProgress


class EpochSaver:
    """Writes one epoch at a time, in order, and tells each when it is written.

    What writing raises is raised where it is waited for, or looked at, next.
    """

    def __init__(self, job: StageJob, position: Position, progress: StageProgress) -> None:
        self.job, self.position, self.progress = job, position, progress
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._writing: Future[None] | None = None
        self._epoch = 0

    def begin(self, better: EpochRow | None) -> None:
        """Save the last of the position's epochs; its weights too where they are `better`."""
        self.finish()
        if not self.job.ranks.leads:
            return
        self._epoch = self.position.epoch
        self._writing = self._thread.submit(_copied_writing(self.job, self.position, better))

    def tell_untold(self) -> None:
        """Tell the last epoch where a kill came between writing and telling it; mend the log.

        Of several none: each is told before the next is begun to be written.
        """
        rows = self.position.rows
        if not self.job.ranks.leads:
            return
        if rows and logged_epochs(self.job.folder.log) == len(rows) - 1:
            self.job.events.happened("epoch", asdict(rows[-1]))
        write_log(self.job.folder.log, rows)

    def wait(self) -> None:
        """Wait until what was begun is written."""
        if self._writing is not None:
            self._writing.result()

    def look(self) -> None:
        """Tell of what is written by now, without waiting."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def finish(self) -> None:
        """Wait until what was begun is written, and tell of it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
            self._tell()

    def close(self) -> None:
        """Wait for the thread. Where training ends by an exception, that is the one to be told."""
        with contextlib.suppress(RunFailed, UserError):
            self.finish()
        self._thread.shutdown()

    def _tell(self) -> None:
        rows = self.position.rows[: self._epoch]
        self.job.events.happened("epoch", asdict(rows[-1]))  # before the log, which says so
        write_log(self.job.folder.log, rows)
        self.progress.epoch(rows[-1], self.job.criterion)


def _copied_writing(
    job: StageJob, position: Position, better: EpochRow | None
) -> Callable[[], None]:
    """What writes the state as it is now, whatever is trained meanwhile.

    The order of writing matters, as a kill may come after each line: the new best first, then
    `latest.pth`, which knows of it, and only then are the bests before it dropped.
    """
    step = job.step
    student, optimizer, scaler = copied(step.student), copied(step.optimizer), copied(step.scaler)
    then = Position(list(position.rows), None, list(position.lowered))

    def write() -> None:
        kept = None
        if better is not None:
            kept = save_best(job.folder, better, student, job.data.classes, job.criterion)
        save_latest(job.folder, job.identity, then, student, optimizer, scaler)
        if kept is not None:
            drop_superseded(job.folder, kept)

    return write
