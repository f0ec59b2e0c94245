"""One stage: epochs of updates, a validation after each, and a checkpoint that loses nothing.

The one training loop. It stops between two updates when asked to. When memory ends it repeats the
update in smaller micro-batches; when losses are not finite it gives up (see `out_of_memory`).
"""

import sys
import time

from distill.base.errors import UserError
from distill.base.units import MIB
from distill.step.memory import read_peaks, read_usage, release_cached, reset_peaks, synchronize
from distill.step.optim import learning_rate_of
from distill.train.best_weights import find_best
from distill.train.checkpoint import PartialEpoch, Position, load_latest, save_latest
from distill.train.criterion import TITLES, best_of, has_waited, is_better, score_text
from distill.train.evaluate import together
from distill.train.events import MemoryLog
from distill.train.metrics import Scores, Tally
from distill.train.out_of_memory import finite
from distill.train.run_folder import EpochRow
from distill.train.saving import EpochSaver
from distill.train.stage_job import StageJob, StopEvaluating, evaluate_split
from distill.train.stage_progress import BarState, StageProgress
from distill.train.updates import set_update, updates_left


def train_stage(job: StageJob) -> Position:
    """Train to the last epoch, from wherever `latest.pth` stands; returns where it ended.

    Raises `Interrupted` after saving when a signal asked to stop, `RunFailed` when memory ends
    where nothing smaller is left, or when the loss is no number any more.
    """
    position = _load(job)
    started = position.partial.updates if position.partial else 0
    progress = StageProgress(
        job.stage,
        epochs=job.plan.training.epochs,
        updates_per_epoch=job.updates_per_epoch,
        done=position.epoch * job.updates_per_epoch + started,
        later_updates=job.later_updates,
        validated=score_text(position.rows[-1], job.criterion) if position.rows else None,
    )
    memory_log = _memory_log(job, position, started)
    saver = EpochSaver(job, position, progress)
    job.handler.watch(job.step, progress.say, saver.finish)
    try:
        saver.tell_untold()
        if position.epoch or started:
            progress.say(f"goes on after epoch {position.epoch}, update {started}")
        with job.stop.finishing(progress.an_update):
            while not _is_over(job, position):
                partial = _train_epoch(job, position, progress, memory_log, saver)
                _finish_epoch(job, position, partial, saver)
                _tell_compiled(job, position, progress)
            saver.finish()
            _tell_why_early(job, position, progress)
    finally:
        saver.close()
        progress.close()
        if memory_log is not None:
            memory_log.close()
    return position


def _tell_compiled(job: StageJob, position: Position, progress: StageProgress) -> None:
    """What the epoch's time went to beside training: blocks that were compiled in it."""
    news = None if job.compile_watch is None else job.compile_watch.news()
    if news is not None:
        progress.say(f"epoch {position.epoch}: {news}")


def _is_over(job: StageJob, position: Position) -> bool:
    """True after the last epoch, or once the recipe's patience is at its end."""
    training = job.plan.training
    waited = has_waited(position.rows, position.best, training.patience)
    return waited or position.epoch >= training.epochs


def _tell_why_early(job: StageJob, position: Position, progress: StageProgress) -> None:
    """Tell where patience ended the training."""
    epochs = job.plan.training.epochs
    if position.epoch < epochs and position.best is not None:
        progress.say(
            f"stops after epoch {position.epoch} of {epochs}: no better validation "
            f"{TITLES[job.criterion]} since epoch {position.best.epoch}"
        )


def _train_epoch(
    job: StageJob,
    position: Position,
    progress: StageProgress,
    memory_log: MemoryLog | None,
    saver: EpochSaver,
) -> PartialEpoch:
    """The rest of the current epoch's updates, in smaller micro-batches whenever memory ends."""
    partial = position.partial or PartialEpoch()
    position.partial = partial
    reset_peaks(job.device)
    while partial.updates < job.updates_per_epoch:
        for update in updates_left(job, position, partial):
            began = time.perf_counter()
            set_update(job, position.epoch * job.updates_per_epoch + update.place)
            results = job.handler.train(
                job.step, update.micro_batches, position, images=update.images
            )
            if results is None:
                break  # the same update again, cut smaller
            if update.counts:
                for batch, result in zip(update.micro_batches, results, strict=True):
                    partial.tally.add(result.loss, result.logits, batch.labels)
            partial.updates += 1
            seconds = time.perf_counter() - began
            partial.seconds += seconds
            if memory_log is not None:
                memory_log.write(position.epoch + 1, update.place + 1, read_usage(job.device))
            if progress.updated():
                progress.show(_bar_state(job, position, partial, seconds))
            saver.look()
            if job.ranks.stop_asked(job.stop):
                _stop(job, position, partial)
    began = time.perf_counter()
    synchronize(job.device)  # the last update is still at work
    partial.seconds += time.perf_counter() - began
    if memory_log is not None:
        memory_log.flush()
    return partial


def _finish_epoch(
    job: StageJob, position: Position, partial: PartialEpoch, saver: EpochSaver
) -> None:
    """Validate, record the epoch, and begin to save it.

    The epoch's time for saving is what training waits: for the epoch before to be written, and for
    a copy of this one. The last one has nothing to train meanwhile and waits for all of it.
    """
    row = job.ranks.all_gather(_epoch_row(job, position, partial))[0]  # one decides what follows
    began = time.perf_counter()
    saver.finish()
    better = is_better(row, position.best, job.criterion)
    position.best = row if better else position.best
    position.rows.append(row)
    position.partial = None
    saver.begin(row if better else None)
    if _is_over(job, position):
        saver.wait()
    position.rows[-1] = row.saved_in(time.perf_counter() - began)
    if job.empty_cache_every is not None and row.epoch % job.empty_cache_every == 0:
        release_cached(job.device)
    if job.ranks.stop_asked(job.stop):
        saver.finish()
        job.ranks.barrier()
        job.stop.raise_if_asked(
            f"Epoch {position.epoch} is saved; the same command goes on from it."
        )


def _epoch_row(job: StageJob, position: Position, partial: PartialEpoch) -> EpochRow:
    """The line of the epoch in the log, all but for saving it; the validation is done here."""
    began = time.perf_counter()
    job.ranks.same_statistics(job.step.student)
    train = _all_training(job, partial).scores(len(job.data.classes))
    val = _validate(job, position, partial)
    synchronize(job.device)  # so that the time below is that of finished work
    evaluation_seconds = time.perf_counter() - began
    peak_bytes = _epoch_peak(job, partial)
    return EpochRow(
        epoch=position.epoch + 1,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        train_precision=train.precision,
        train_recall=train.recall,
        train_f1_score=train.f1_score,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        val_precision=val.precision,
        val_recall=val.recall,
        val_f1_score=val.f1_score,
        learning_rate=learning_rate_of(job.step.optimizer),
        epoch_time_sec=partial.seconds + (partial.input_seconds or 0.0) + evaluation_seconds,
        gpu_memory_mb=None if peak_bytes is None else peak_bytes / MIB,
        train_auc=train.auc,
        val_auc=val.auc,
        update_time_sec=partial.seconds,
        input_time_sec=partial.input_seconds,
        evaluation_time_sec=evaluation_seconds,
    )


def _epoch_peak(job: StageJob, partial: PartialEpoch) -> int | None:
    """The epoch's peak of reserved bytes, that of its part before an interruption included."""
    peaks = read_peaks(job.device)
    if peaks is None:
        return None
    return job.ranks.largest(max(peaks.reserved_bytes, partial.peak_reserved_bytes or 0))


def _all_training(job: StageJob, partial: PartialEpoch) -> Tally:
    """The outcomes of the epoch so far in all processes; from here on the leading one has them."""
    if job.ranks.world_size == 1:
        return partial.tally
    whole = together(job.ranks.all_gather(partial.tally))
    partial.tally = whole if job.ranks.leads else Tally()
    return whole


def _validate(job: StageJob, position: Position, partial: PartialEpoch) -> Scores:
    """Scores on the validation images; a stop that is asked for meanwhile saves the updates."""
    try:
        val = evaluate_split(job, job.data.val).scores(len(job.data.classes))
    except StopEvaluating:
        _stop(job, position, partial)
        raise
    if not finite(val.loss):
        job.handler.give_up(position, "The validation loss is not finite")
    return val


def _stop(job: StageJob, position: Position, partial: PartialEpoch) -> None:
    """Save between two updates and leave; after losses that were not finite, leave as it was."""
    job.handler.saved()  # the epoch before first: files of a later one must not be overtaken
    if job.handler.not_finite:
        job.stop.raise_if_asked("The last update was not finite: not saved, the state before is.")
    partial.peak_reserved_bytes = _epoch_peak(job, partial)
    job.ranks.same_statistics(job.step.student)
    _all_training(job, partial)
    if job.ranks.leads:
        _save(job, position)
    job.ranks.barrier()  # none leaves before it is saved: a launcher ends all with the first
    job.stop.raise_if_asked(
        f"{job.stage} is saved at epoch {position.epoch + 1}, update {partial.updates}; "
        "the same command goes on from there."
    )


def _bar_state(
    job: StageJob, position: Position, partial: PartialEpoch, seconds: float
) -> BarState:
    """The state of training for the bar."""
    return BarState(
        epoch=position.epoch + 1,
        update=partial.updates,
        loss=partial.tally.loss,
        accuracy=partial.tally.accuracy,
        images_per_second=job.plan.training.effective_batch / seconds,
        usage=read_usage(job.device),
        limit_bytes=job.plan.budget.limit_bytes if job.plan.budget else None,
    )


def _memory_log(job: StageJob, position: Position, started: int) -> MemoryLog | None:
    if not job.memory_log or not job.ranks.leads:
        return None
    return MemoryLog(job.folder.memory_log, epoch=position.epoch + 1, update=started + 1)


def _load(job: StageJob) -> Position:
    step = job.step
    position = load_latest(
        job.folder,
        job.identity,
        step.student,
        step.optimizer,
        step.scaler,
        lambda line: print(f"  {job.stage}  {line}", file=sys.stderr),
    )
    kept = find_best(job.folder) if position.rows else None
    if kept is not None and kept[1] <= position.epoch:  # by an earlier rule, perhaps
        position.best = position.rows[kept[1] - 1]
    else:
        position.best = best_of(position.rows, job.criterion)
    job.ranks.same_weights(step.student)
    places = job.ranks.all_gather((position.epoch, position.partial and position.partial.updates))
    if len(set(places)) > 1:
        raise UserError(
            f"The processes of this run find different checkpoints in {job.folder.checkpoints}. "
            "Give all of them the same folder: --out on a file system that the machines share."
        )
    if position.partial is not None and not job.ranks.leads:
        position.partial.tally = Tally()
    return position


def _save(job: StageJob, position: Position) -> None:
    step = job.step
    save_latest(job.folder, job.identity, position, step.student, step.optimizer, step.scaler)
