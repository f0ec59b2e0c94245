"""The test of a stage that is trained: its best checkpoint on the images that nothing else saw."""

from collections.abc import Sequence

from distill.base.console import say
from distill.base.errors import RunFailed
from distill.base.units import MIB
from distill.run.request import RunRequest
from distill.spec.image_source import safe_name
from distill.step.models import parameter_count
from distill.train.best_weights import find_best, load_weights
from distill.train.checkpoint import Position
from distill.train.class_scores import ClassScores, class_scores
from distill.train.run_folder import TIME_PARTS, EpochRow, StageResult
from distill.train.stage_job import StageJob, StopEvaluating, evaluate_split

WEAKEST = 3
"""How many classes are named that a model knows least."""


def tested(request: RunRequest, job: StageJob, position: Position) -> StageResult:
    """The best checkpoint's scores on the test images, looked at here and nowhere else."""
    job.ranks.barrier()  # the best is written by one
    best = find_best(job.folder)
    if best is None:
        raise RunFailed(
            f"The best checkpoint of stage {job.stage} is gone from {job.folder.checkpoints}. "
            f"Train the stage again: --stage {job.stage} --fresh."
        )
    path, epoch, val_accuracy = best
    load_weights(path, job.step.student)
    try:
        tally = evaluate_split(job, job.data.test)
    except StopEvaluating:
        job.stop.raise_if_asked(f"{job.stage} is trained; the same command repeats its test.")
        raise
    scores = tally.scores(len(job.data.classes))
    _tell_classes(request, job, class_scores(tally, job.data.classes))
    peaks = [row.gpu_memory_mb for row in position.rows if row.gpu_memory_mb is not None]
    return StageResult(
        stage=job.stage,
        model=job.plan.candidate.student.name,
        parameters=parameter_count(job.step.student),
        best_epoch=epoch,
        val_accuracy=val_accuracy,
        test_accuracy=scores.accuracy,
        test_precision=scores.precision,
        test_recall=scores.recall,
        test_f1_score=scores.f1_score,
        test_images=len(job.data.test),
        epochs=position.epoch,
        train_seconds=sum(row.epoch_time_sec for row in position.rows) + _caching_seconds(job),
        peak_reserved_bytes=round(max(peaks) * MIB) if peaks else None,
        device=job.device.type,
        checkpoint=path.name,
        test_auc=scores.auc,
        **_time_by_part(position.rows),
    )


def _time_by_part(rows: Sequence[EpochRow]) -> dict[str, float | None]:
    """Where the time of the epochs went, by the names that a result has for it."""
    parts = [[getattr(row, f"{name}_time_sec") for name in TIME_PARTS] for row in rows]
    known = [epoch for epoch in parts if None not in epoch]
    sums = map(sum, zip(*known, strict=True)) if known else [None] * len(TIME_PARTS)
    return {f"{name}_seconds": total for name, total in zip(TIME_PARTS, sums, strict=True)}


def _caching_seconds(job: StageJob) -> float:
    """What the stage's teacher took before the first epoch."""
    return 0.0 if job.taught is None else job.taught.seconds


def _tell_classes(request: RunRequest, job: StageJob, found: ClassScores) -> None:
    """Hand on the scores by class, and name those that the model knows least."""
    if request.class_report is not None and job.ranks.leads:
        images = f"test images of {safe_name(job.data.name)}"
        title = f"{job.stage}, {job.plan.candidate.student.title}: {images}"
        request.class_report(job.folder.root, found, title)
    weakest = ", ".join(
        f"{row.name!r} {100 * row.right / row.images:.1f} % (of {row.images})"
        for row in found.weakest(WEAKEST)
    )
    say(f"  {job.stage}  lowest recall on the test images: {weakest}")
