"""One stage of a chain: its step built, trained, tested once, its result written.

`chain` says which stages, in what order; `train` does the work.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from distill.base.console import say
from distill.base.digest import file_digest
from distill.base.files import write_json
from distill.base.signals import StopRequest
from distill.base.units import count_text, duration
from distill.data.batches import updates_per_epoch
from distill.data.dataset import Dataset
from distill.run.advice import largest_fitting_batch
from distill.run.caching import cached_logits
from distill.run.final_test import tested
from distill.run.lone_images import checked_fewest, left_out_note
from distill.run.machine_check import crawling_watched
from distill.run.request import RunRequest
from distill.run.stage_step import advice_for, built_step
from distill.run.teacher import teacher_digest, teacher_file
from distill.spec.candidate import Criterion, StageName
from distill.spec.image_files import count_of
from distill.spec.recipe import Stage
from distill.spec.stage_plan import StagePlan
from distill.spec.stage_time import stage_line
from distill.step.compiled import CompileWatch, compile_blocks
from distill.step.memory import empty_allocator, pinned
from distill.step.models import parameter_count
from distill.step.step import Step
from distill.train.checkpoint import Identity
from distill.train.criterion import TITLES, default_criterion
from distill.train.events import EventLog
from distill.train.loop import train_stage
from distill.train.out_of_memory import OutOfMemoryHandler, consequence_of
from distill.train.run_folder import StageFolder, StageResult, stage_folder, write_result
from distill.train.stage_job import StageJob


def run_stage(
    request: RunRequest,
    plan: StagePlan,
    stage: Stage,
    data: Dataset,
    stop: StopRequest,
    later: Sequence[StagePlan],
) -> StageResult:
    """Train a stage to its end, from wherever it stands; `later` are the stages after it.

    Raises `Interrupted` after saving when a signal asked to stop, `RunFailed` when it can't be
    trained here, `UserError` when the stage that teaches it is not finished.
    """
    for note in plan.notes:
        say(f"  {stage.name}  {note}")
    teacher = teacher_file(request.recipe, request.folder, stage)
    with pinned(plan.pins, request.device):
        taught = None
        if plan.candidate.teacher_logits == "cached" and teacher is not None:
            taught = cached_logits(request, plan, teacher, data, stop)
        job = replace(_stage_job(request, plan, teacher, data, stop, later), taught=taught)
        if request.compiles:
            job = replace(job, compile_watch=_compiled(job.step, stage.name))
        with crawling_watched(request.device):
            position = train_stage(job)
        result = tested(request, job, position)
    if request.ranks.leads:
        write_result(job.folder, result)
    request.ranks.barrier()  # the stages after it read what is written here
    job.events.happened("stage_done", asdict(result))
    say(
        f"  {stage.name}  {100 * result.test_accuracy:.2f} % of "
        f"{count_of(result.test_images, 'untouched test image')}, {duration(result.train_seconds)}"
    )
    if request.stage_pictures is not None and request.ranks.leads:
        request.stage_pictures(request, job)
    del job  # it owns the step: its memory must be free before it can be given back
    empty_allocator(request.device)  # the next stage is predicted from there
    return result


def _stage_job(
    request: RunRequest,
    plan: StagePlan,
    teacher: Path | None,
    data: Dataset,
    stop: StopRequest,
    later: Sequence[StagePlan],
) -> StageJob:
    """The stage ready to be trained; that it begins is told, and its values are written down."""
    name = plan.candidate.stage
    folder = stage_folder(request.folder, request.recipe, name)
    events = _events(request, folder, name)
    begun = folder.latest.exists() or folder.previous.exists()
    step = built_step(request, plan, teacher, data, begun=begun)
    criterion = plan.training.criterion or default_criterion(data.task)
    say(_summary(plan, step, criterion))
    fewest = checked_fewest(plan)
    notes = _expected(request, plan), left_out_note(plan, len(data.train), fewest)
    for note in filter(None, notes):
        say(f"  {name}  {note}")
    _write_config(folder, request, plan, teacher)
    events.happened("stage_begins", {"model": plan.candidate.student.title})
    return StageJob(
        stage=name,
        plan=plan,
        step=step,
        data=data,
        folder=folder,
        identity=_identity(request, plan, teacher),
        seed=request.recipe.seed,
        stop=stop,
        events=events,
        handler=replace(_out_of_memory_handler(request, plan, folder, events), fewest=fewest),
        criterion=criterion,
        fewest=fewest,
        later_updates=_updates_of(later, data),
        memory_log=request.memory_log,
        empty_cache_every=request.empty_cache_every,
        ranks=request.ranks,
    )


def _events(request: RunRequest, folder: StageFolder, name: StageName) -> EventLog:
    return EventLog(
        stage=name, record=folder.events, json_log=request.json_log, writes=request.ranks.leads
    )


def _compiled(step: Step, name: StageName) -> CompileWatch:
    """Have the blocks of both models compiled, say so, and watch how often that is."""
    say(f"  {name}  blocks are compiled as they are first called: memory at most as predicted")
    compile_blocks([model for model in (step.student, step.teacher) if model is not None])
    return CompileWatch()


def _identity(request: RunRequest, plan: StagePlan, teacher: Path | None) -> Identity:
    weights = request.weights.get(plan.candidate.stage)
    return Identity(
        stage=plan.candidate.stage,
        recipe=request.recipe.digest(),
        teacher=None if teacher is None else teacher_digest(teacher),
        weights=None if weights is None else file_digest(weights),
    )


def _out_of_memory_handler(
    request: RunRequest, plan: StagePlan, folder: StageFolder, events: EventLog
) -> OutOfMemoryHandler:
    return OutOfMemoryHandler(
        planned=plan.candidate.micro_batch,
        effective_batch=plan.training.effective_batch,
        precision=plan.candidate.precision,
        learning_rate=plan.training.learning_rate,
        folder=folder,
        events=events,
        advice=lambda batch: advice_for(request, plan, batch),
        largest_fitting=lambda: _largest_fitting(request, plan),
        consequence=consequence_of(plan.candidate),
        ranks=request.ranks,
    )


def _largest_fitting(request: RunRequest, plan: StagePlan) -> int | None:
    """Asked only when memory ended: a prediction takes some seconds."""
    if request.profile is None or request.device.type != "cuda":
        return None
    return largest_fitting_batch(request.recipe, plan.candidate, request.profile)


def _updates_of(plans: Sequence[StagePlan], data: Dataset) -> int:
    """Optimizer updates that these stages take."""
    return sum(
        plan.training.epochs * updates_per_epoch(len(data.train), plan.training.effective_batch)
        for plan in plans
    )


def _write_config(
    folder: StageFolder, request: RunRequest, plan: StagePlan, teacher: Path | None
) -> None:
    """Write the values that this stage is trained with, beside its log."""
    if not request.ranks.leads:
        return
    weights = request.weights.get(plan.candidate.stage)
    write_json(
        folder.config,
        {
            "recipe": request.recipe.model_dump(mode="json"),
            "training": plan.training.model_dump(mode="json"),
            "candidate": asdict(plan.candidate),
            "pins": plan.pins.model_dump(mode="json") if plan.pins else None,
            "budget": plan.budget.model_dump(mode="json") if plan.budget else None,
            "choice": plan.choice.model_dump(mode="json") if plan.choice else None,
            "target": request.profile.target.title if request.profile else None,
            "weights": file_digest(weights) if weights else None,
            "teacher": teacher_digest(teacher) if teacher else None,
            "torch": torch.__version__,
        },
    )


def _expected(request: RunRequest, plan: StagePlan) -> str | None:
    """How long the profile says that the stage takes on its card; nothing on a CPU."""
    if request.profile is None or request.device.type != "cuda":
        return None
    data, card = request.recipe.dataset_info(), request.profile.target.title
    return stage_line(plan.choice, plan.training.epochs, data, card)


def _summary(plan: StagePlan, step: Step, criterion: Criterion) -> str:
    candidate = plan.candidate
    taught = f", taught by {plan.taught_by}" if plan.taught_by else ""
    if plan.cached_views is not None:
        taught += f" from cached logits for {count_of(plan.cached_views, 'view')} of an image"
    checkpointing = f", checkpointing {candidate.checkpointing}" if candidate.checkpointing else ""
    together = f"{candidate.micro_batch} × {candidate.accumulation} images an update"
    if candidate.effective_batch != plan.training.effective_batch:  # the last part is smaller
        whole = plan.training.effective_batch
        together = f"{whole} images an update, at most {candidate.micro_batch} at a time"
    return (
        f"  {candidate.stage}  {candidate.student.title}, "
        f"{count_text(parameter_count(step.student))} parameters{taught}; {together}, "
        f"{candidate.precision}{checkpointing}; best epoch by {TITLES[criterion]}"
    )
