"""Running a chain: stages in order, each taught by the best checkpoint of the one before it.

What can be refused is refused before the folder is touched. A finished stage is not repeated.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from distill.base.console import say
from distill.base.digest import file_digest
from distill.base.errors import Interrupted, RunFailed, UserError
from distill.base.files import check_folder, write_text
from distill.base.lock import alone_with
from distill.base.signals import StopRequest
from distill.data.balance import uneven_note
from distill.data.dataset import Dataset, content_of
from distill.data.load import load_dataset
from distill.run.advice import check_override
from distill.run.claim import FolderClaim, stages_started_over
from distill.run.host_memory import check_host_memory
from distill.run.lone_images import checked_fewest
from distill.run.request import RunRequest, enforce, planned
from distill.run.same_work import check_same_data, check_same_work
from distill.run.stage import run_stage
from distill.run.stage_step import first_weights
from distill.run.take_folder import take_folder
from distill.run.teacher import check_answers, check_own_teacher, teacher_file
from distill.spec.image_files import count_of, listed
from distill.spec.recipe import Stage
from distill.spec.stage_plan import StagePlan, chosen_stages
from distill.step.compiled import compile_failures_told
from distill.step.meta_forward import check_trainable
from distill.train.run_folder import (
    StageResult,
    read_config,
    read_result,
    stage_folder,
    stage_has_begun,
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stage that was asked for, its plan, and its result where it is finished and kept."""

    stage: Stage
    plan: StagePlan
    result: StageResult | None


def run_chain(request: RunRequest, stop: StopRequest) -> list[StageResult]:
    """Train what is not trained yet; returns the result of every stage asked for.

    Of processes that train together one claims the folder and writes; the others go on, as a
    second run would, with the one that it began.
    Raises `Interrupted` after saving when a signal asked to stop, `ProfileMismatch` when the
    card is smaller than the profile assumes, `UserError` when the folder holds another run or
    another process is at work on it.
    """
    check_same_work(request)
    if not request.ranks.leads:
        request.ranks.barrier()
        request = replace(request, fresh=False)
    claim = FolderClaim(
        folder=request.folder,
        recipe=request.recipe,
        started_over=(stages_started_over(request.recipe, request.stage) if request.fresh else ()),
    )
    tasks = _planned_tasks(request, claim)
    if not request.ranks.leads:
        return _run_tasks(request, tasks, claim, stop)
    with alone_with(request.folder):
        claim.check()  # once more: another process may have written before the lock was taken
        tasks = [replace(task, result=_kept_result(request, task.stage, claim)) for task in tasks]
        return _run_tasks(request, tasks, claim, stop)


def _planned_tasks(request: RunRequest, claim: FolderClaim) -> list[Task]:
    """One task a stage; overrides of the profile are held against a prediction."""
    stages = chosen_stages(request.recipe, request.stage)
    plans = [planned(request, stage) for stage in stages]
    claim.check()
    tasks = [
        Task(stage=stage, plan=plan, result=_kept_result(request, stage, claim))
        for stage, plan in zip(stages, plans, strict=True)
    ]
    tasks = [replace(task, plan=_checked_plan(request, task)) for task in tasks]
    if request.ranks.leads:
        _check_writable(request, claim, tasks)
        _check_fetchable(request, claim, tasks)
    return tasks


def _check_writable(request: RunRequest, claim: FolderClaim, tasks: Sequence[Task]) -> None:
    """Refuse a folder in which an epoch would be trained and then not be saved."""
    for task in tasks:
        if task.result is None and task.stage.name not in claim.started_over:
            folder = stage_folder(request.folder, request.recipe, task.stage.name)
            for place in (folder.checkpoints, folder.log.parent, folder.root):
                check_folder(place)


def _check_fetchable(request: RunRequest, claim: FolderClaim, tasks: Sequence[Task]) -> None:
    """Refuse first weights that can't be had, the first stage's first."""
    for task in _without_weights(request, claim, tasks):
        if task.stage.name not in request.weights and request.recipe.pretrained:
            # loads timm, which takes seconds: a run that goes on needs no such weights
            from distill.run.pretrained import check_fetchable

            check_fetchable(task.stage.name, task.plan.candidate.student.name)


def _without_weights(
    request: RunRequest, claim: FolderClaim, tasks: Sequence[Task]
) -> Iterator[Task]:
    """The tasks that have no weights of their own yet."""
    for task in tasks:
        begun = stage_has_begun(request.folder / task.stage.name)
        if task.result is None and (not begun or task.stage.name in claim.started_over):
            yield task


def _checked_plan(request: RunRequest, task: Task) -> StagePlan:
    """The plan; where it overrides the profile, with the choice that the prediction makes of it."""
    plan = task.plan
    if plan.overridden is None or request.profile is None or task.result is not None:
        return plan
    note, choice = check_override(request.recipe, plan, request.profile)
    say(f"  {plan.candidate.stage}  {note}")
    return replace(plan, choice=choice)


def _kept_result(request: RunRequest, stage: Stage, claim: FolderClaim) -> StageResult | None:
    """The result of a finished stage that is not started over."""
    if stage.name in claim.started_over:
        return None
    return read_result(stage_folder(request.folder, request.recipe, stage.name))


def _run_tasks(
    request: RunRequest, tasks: Sequence[Task], claim: FolderClaim, stop: StopRequest
) -> list[StageResult]:
    """Train the tasks without a result. The caller holds the lock of the folder."""
    data, content = None, None
    _check_same_weights(request, tasks)
    _check_same_teacher(request, tasks)
    if any(task.result is None for task in tasks):
        _check_teacher(request, tasks)
        _check_steps(request, [task.plan for task in tasks if task.result is None])
        _check_first_weights(request, claim, tasks)
        data = _load(request, stop)
        content = content_of(data)
        claim.check(content)
        tasks = [_with_images(task, len(data.train)) for task in tasks]
    if request.profile is not None and request.device.type == "cuda":
        say(f"  {enforce(request.profile.budget, request.device)}")
    if data is not None and content is not None:
        _check_own_teachers(request, tasks, data)
        # the first change to the folder, after all that can be refused
        take_folder(request, [task.plan.candidate for task in tasks], claim, content)
        _list_unreadable(request, data)
    request.ranks.catch_up()  # the others read what is there, before more is written
    check_same_data(request, content, [task.result for task in tasks])
    torch.use_deterministic_algorithms(request.overrides.deterministic)
    done: list[StageResult] = []
    for place, task in enumerate(tasks):
        result = task.result
        if result is not None:
            say(f"  {task.stage.name}  done before")
        else:
            assert data is not None
            later = [after.plan for after in tasks[place + 1 :]]
            with _fresh_no_more(request), compile_failures_told(asked=request.compiles):
                result = run_stage(request, task.plan, task.stage, data, stop, later)
        done.append(result)
    return done


def _check_steps(request: RunRequest, plans: Sequence[StagePlan]) -> None:
    """Refuse a model that can't learn as planned, and on a CPU a step that takes all its memory."""
    for plan in plans:
        checked_fewest(plan)
        check_trainable(plan.candidate, compiles=request.compiles)
        if request.device.type == "cpu" and not request.compiles:
            check_host_memory(plan.candidate)


def _with_images(task: Task, images: int) -> Task:
    """The task with as many images an epoch as could be read: what decides its last batch."""
    candidate = replace(task.plan.candidate, images_per_epoch=images)
    return replace(task, plan=replace(task.plan, candidate=candidate))


def _check_teacher(request: RunRequest, tasks: Sequence[Task]) -> None:
    """Refuse a stage whose teacher is neither finished nor among those to be trained, or unfit."""
    asked = {task.stage.name for task in tasks}
    for task in tasks:
        if task.result is None and task.stage.taught_by not in asked:
            teacher_file(request.recipe, request.folder, task.stage)
            check_own_teacher(request, task.plan)


def _check_own_teachers(request: RunRequest, tasks: Sequence[Task], data: Dataset) -> None:
    """Ask each of the user's own teachers once, with the first stage that it teaches."""
    asked: set[Path] = set()
    for task in tasks:
        own = request.recipe.own_teacher_of(task.stage.name)
        if own is not None and task.result is None and own.weights not in asked:
            asked.add(own.weights)
            check_answers(request, task.plan, data)


def _check_same_teacher(request: RunRequest, tasks: Sequence[Task]) -> None:
    """Refuse a finished stage that another model in the file of the user's own teacher taught."""
    for task in tasks:
        own = request.recipe.own_teacher_of(task.stage.name)
        if task.result is None or own is None:
            continue
        folder = stage_folder(request.folder, request.recipe, task.stage.name)
        if read_config(folder).teacher != file_digest(own.weights):
            raise UserError(
                f"Stage {task.stage.name} in {request.folder} is finished, and {own.weights} held "
                "another teacher then. Start it over with --fresh, or choose another folder with "
                "--out."
            )


def _check_same_weights(request: RunRequest, tasks: Sequence[Task]) -> None:
    """Refuse a finished stage that is asked for from other first weights."""
    for task in tasks:
        name = task.stage.name
        weights = request.weights.get(name)
        if task.result is None or weights is None:
            continue
        folder = stage_folder(request.folder, request.recipe, name)
        if read_config(folder).weights != file_digest(weights):
            raise UserError(
                f"Stage {name} in {request.folder} is finished, and did not begin with "
                f"{weights}. Start it over with --stage {name} --fresh, or choose another "
                "folder with --out."
            )


def _check_first_weights(request: RunRequest, claim: FolderClaim, tasks: Sequence[Task]) -> None:
    """Fetch and read the first weights of every stage, in order, before time is spent on one."""
    for task in _without_weights(request, claim, tasks):
        if request.recipe.pretrained or task.stage.name in request.weights:
            first_weights(request, task.plan)


@contextmanager
def _fresh_no_more(request: RunRequest) -> Iterator[None]:
    """Tell the user of `--fresh` to leave it out, where a failure asks for the same command."""
    try:
        yield
    except (Interrupted, RunFailed) as error:
        if request.fresh:
            error.args = (f"{error} Leave out --fresh then: it starts over.",)
        raise


def _list_unreadable(request: RunRequest, data: Dataset) -> None:
    """Write down the images that were left out, a line each."""
    if data.unreadable and request.ranks.leads:
        path = request.folder / "unreadable.txt"
        write_text(path, "".join(f"{reason}\n" for reason in data.unreadable))
        left_out = count_of(len(data.unreadable), "image")
        say(f"  data  {left_out} left out, unreadable: see {path}")


def _load(request: RunRequest, stop: StopRequest) -> Dataset:
    recipe = request.recipe
    data = load_dataset(
        recipe.dataset,
        recipe.image_size,
        request.data_dir,
        workers=request.num_workers,
        skip_unreadable=recipe.skip_unreadable,
        between=lambda: stop.raise_if_asked("No stage was begun."),
    )
    decided = f"; {data.decided}" if data.decided else ""
    say(f"  data  {data.name}: {len(data.classes)} classes ({listed(data.classes)}){decided}")
    say(
        f"  data  {count_of(len(data.train), 'image')} to train on, {len(data.val):,} to validate "
        f"with, {len(data.test):,} untouched for the test"
    )
    balanced = any(recipe.training_of(stage.name).balance for stage in recipe.stage)
    uneven = None if balanced else uneven_note(data)
    for note in [*data.notes, *([uneven] if uneven else [])]:
        say(f"  data  {note}")
    return data
