"""The pass before a stage that caches its teacher's logits: once, for every view to be replayed.

The teacher is then gone from the device. What was made is kept when the pass is interrupted.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from distill.base.console import say
from distill.base.errors import RunFailed
from distill.base.progress import Progress
from distill.base.signals import StopRequest
from distill.base.units import bytes_text, duration
from distill.data.batches import TeacherLogits, teaching_batches
from distill.data.dataset import Dataset, content_of
from distill.data.logits_file import FOLDER, LogitsFile, LogitsWriter
from distill.data.logits_key import LogitsKey
from distill.run.request import RunRequest
from distill.run.teacher import built_teacher, teacher_digest
from distill.spec.candidate import ModelSpec
from distill.spec.stage_plan import StagePlan
from distill.step.assemble import assemble_teaching
from distill.step.memory import empty_allocator
from distill.step.models import Normalisation, build, normalisation_of
from distill.step.step import Teaching
from distill.train.out_of_memory import retried
from distill.train.run_folder import stage_folder

KEPT_EVERY_SECONDS = 10.0
"""A process that is killed has at most so much to do again."""

HEARD_EVERY_SECONDS = 1.0
"""Another process that is asked to stop is heard within so long."""


def cached_logits(
    request: RunRequest, plan: StagePlan, teacher: Path, data: Dataset, stop: StopRequest
) -> TeacherLogits:
    """The logits of the stage's teacher for every view that its epochs replay, made if need be.

    Raises `UserError` where logits of something else lie in the stage's folder, `Interrupted`
    when asked to stop, with what was made kept.
    """
    stage = plan.candidate.stage
    folder = stage_folder(request.folder, request.recipe, stage).root / FOLDER
    file = LogitsFile(folder, _key(request, plan, teacher, data))
    ranks = request.ranks
    found = file.read() if ranks.leads else None
    if found is None and ranks.leads:
        ranks.stop_asked_meanwhile(stop)  # from here on the others wait, and say so
        _make(_Pass(request, plan, teacher, data, stop, file.begin()))
    ranks.led(stop)  # the others read what one made
    if found is None:
        found = file.read()
        if found is None:
            raise RunFailed(f"{file.array} was written and can't be read. Is the disk sound?")
    return found


@dataclass(frozen=True)
class _Pass:
    """A pass over the training images: what is asked for, and where the logits go."""

    request: RunRequest
    plan: StagePlan
    teacher: Path
    data: Dataset
    stop: StopRequest
    writer: LogitsWriter


def _make(work: _Pass) -> None:
    """Ask the teacher about every view that is not on the disk yet."""
    stage, writer = work.plan.candidate.stage, work.writer
    views, left = writer.file.key.views, writer.total - writer.done
    times = f"{views} views" if views > 1 else "one view"
    say(
        f"  {stage}  caches its teacher's logits: {times} of "
        f"{writer.file.key.images:,} images, {bytes_text(writer.file.key.size_bytes)} in "
        f"{writer.file.folder}"
    )
    if writer.done:
        say(f"  {stage}  goes on after {writer.done:,} of {writer.total:,}")
    _ask(work, left)
    empty_allocator(work.request.device)  # the stage is predicted from there
    writer.finish()
    say(f"  {stage}  its teacher's logits took {duration(writer.seconds)}; the teacher is let go")


def _ask(work: _Pass, left: int) -> None:
    """Ask about the views that are left, in smaller batches when memory ends."""
    candidate, device = work.plan.candidate, work.request.device
    teaching = _teaching(work)
    what = f"logits of {candidate.stage}'s teacher"
    with work.stop.finishing(_what_is_finished), Progress(what, left, "views") as progress:
        retried(lambda batch: _fill(work, teaching, progress, batch), candidate.micro_batch, device)


def _fill(work: _Pass, teaching: Teaching, progress: Progress, batch_size: int) -> None:
    """Write the rows that are left, so many images at a time; keep them every few seconds."""
    writer, candidate = work.writer, work.plan.candidate
    images, kept_at = writer.file.key.images, time.perf_counter()
    heard_at = kept_at
    while writer.done < writer.total:
        draw, first = divmod(writer.done, images)
        batches = teaching_batches(
            work.data.train,
            candidate.input,
            seed=work.request.recipe.seed,
            draw=draw,
            first=first,
            batch_size=batch_size,
            pin=work.request.device.type == "cuda",
        )
        for batch in batches:
            began = time.perf_counter()
            logits = teaching(batch)
            if not torch.isfinite(logits).all():
                raise RunFailed(_not_finite(work))
            plain = logits.view(torch.int16) if logits.dtype == torch.bfloat16 else logits
            now = time.perf_counter()
            writer.add(plain.numpy(), now - began)
            progress.advance(len(batch))
            if work.stop.number is not None or now - heard_at > HEARD_EVERY_SECONDS:
                work.request.ranks.stop_asked_meanwhile(work.stop)
                heard_at = now
            asked = work.stop.number is not None  # looked at once, so that what is told is kept
            if asked or now - kept_at > KEPT_EVERY_SECONDS:
                writer.keep()
                kept_at = now
            if asked:
                work.stop.raise_if_asked(
                    f"{writer.kept:,} of {writer.total:,} views are kept; the same command goes on."
                )


def _teaching(work: _Pass) -> Teaching:
    """The teacher alone, on the device."""
    candidate = work.plan.candidate
    assert candidate.teacher is not None
    teacher = built_teacher(work.request, work.plan, work.teacher)
    assert teacher is not None
    student = _without_numbers(candidate.student)
    return assemble_teaching(candidate, student, teacher, work.request.device)


def _key(request: RunRequest, plan: StagePlan, teacher: Path, data: Dataset) -> LogitsKey:
    """What the logits depend on."""
    candidate = plan.candidate
    assert candidate.teacher is not None
    channels = candidate.student.channels
    student_sees, teacher_sees = (
        _values(normalisation_of(_without_numbers(spec), channels))
        for spec in (candidate.student, candidate.teacher)
    )
    return LogitsKey(
        teacher=teacher_digest(teacher),
        model=candidate.teacher.title,
        data=str(content_of(data)["digest"]),
        images=len(data.train),
        classes=candidate.student.classes,
        views=plan.training.cached_views(candidate.input),
        seed=request.recipe.seed,
        input=candidate.input,
        image_size=candidate.student.image_size,
        normalisation=student_sees,
        teacher_normalisation=teacher_sees,
        precision=candidate.precision,
    )


def _values(normalisation: Normalisation) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return normalisation.mean, normalisation.std


def _without_numbers(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return build(spec)


def _what_is_finished() -> str:
    return "a batch of the teacher's, and saving what there is"


def _not_finite(work: _Pass) -> str:
    candidate = work.plan.candidate
    cure = "another teacher"
    if candidate.precision == "fp16":
        cure = "--precision fp32, or bf16 where the card has it"
    return (
        f"The teacher of stage {candidate.stage} gives logits that are not finite in "
        f"{candidate.precision}. Try {cure}."
    )
