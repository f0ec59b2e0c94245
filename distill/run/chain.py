"""Running a chain: stages in order, each taught by the best checkpoint of the one before it.

What can be refused is refused before the folder is touched. A finished stage is not repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from distill.base.console import say
from distill.base.errors import Interrupted, RunFailed, UserError
from distill.base.lock import alone_with
from distill.base.signals import StopRequest
from distill.data.dataset import Dataset, content_of
from distill.data.load import load_dataset
from distill.run.advice import check_override
from distill.run.claim import Claim, stages_started_over
from distill.run.request import Request, enforce, planned
from distill.run.stage import file_digest, first_weights, run_stage, teacher_file
from distill.spec.recipe import Stage
from distill.spec.stage_plan import StagePlan, chosen_stages
from distill.train.run_folder import StageResult, read_document, read_result, stage_folder


def run_chain(request: Request, stop: StopRequest) -> list[StageResult]:
    """Train what is not trained yet; returns the result of every stage asked for.

    Raises `Interrupted` after saving when a signal asked to stop, `ProfileMismatch` when the
    card is smaller than the profile assumes, `UserError` when the folder holds another run or
    another process is at work on it.
    """
    stages = chosen_stages(request.recipe, request.stage)
    claim = Claim(
        folder=request.folder,
        recipe=request.recipe,
        started_over=(stages_started_over(request.recipe, request.stage) if request.fresh else ()),
    )
    plans = _plans(request, stages, claim)
    with alone_with(request.folder):
        return _run_alone(request, stages, plans, claim, stop)


def _plans(request: Request, stages: list[Stage], claim: Claim) -> list[StagePlan]:
    """One a stage; what the command line asks for over the profile held against a prediction."""
    plans = [planned(request, stage) for stage in stages]
    claim.check()
    results = _results(request, stages, claim)
    for place, (plan, result) in enumerate(zip(plans, results, strict=True)):
        if plan.overridden is not None and request.profile is not None and result is None:
            note, choice = check_override(request.recipe, plan, request.profile)
            plans[place] = replace(plan, choice=choice)
            say(f"  {plan.candidate.stage}  {note}")
    return plans


def _run_alone(
    request: Request,
    stages: list[Stage],
    plans: list[StagePlan],
    claim: Claim,
    stop: StopRequest,
) -> list[StageResult]:
    """The same with no other process in the folder."""
    claim.check()
    results = _results(request, stages, claim)
    data = None
    _check_same_weights(request, stages, results)
    if not all(results):
        _check_teacher(request, stages, results)
        _check_first_weights(request, plans, results)
        data = _load(request, stop)
        content = content_of(data)
        claim.check(content)
    if request.profile is not None and request.device.type == "cuda":
        say(f"  {enforce(request.profile.budget, request.device)}")
    if data is not None:
        torch.set_num_threads(claim.take(content, torch.get_num_threads()))
    torch.use_deterministic_algorithms(request.overrides.deterministic)
    done: list[StageResult] = []
    for stage, plan, result in zip(stages, plans, results, strict=True):
        if result is not None:
            say(f"  {stage.name}  done before")
        else:
            assert data is not None
            with _fresh_no_more(request):
                result = run_stage(request, plan, stage, data, stop, plans[len(done) + 1 :])
        done.append(result)
    return done


def _results(request: Request, stages: list[Stage], claim: Claim) -> list[StageResult | None]:
    """Of every stage asked for that is finished and not started over."""
    return [
        None
        if stage.name in claim.started_over
        else read_result(stage_folder(request.folder, request.recipe, stage.name))
        for stage in stages
    ]


def _check_teacher(
    request: Request, stages: list[Stage], results: list[StageResult | None]
) -> None:
    """Refuse a stage whose teacher is neither finished nor among those to be trained."""
    asked = {stage.name for stage in stages}
    for stage, result in zip(stages, results, strict=True):
        if result is None and stage.taught_by not in asked:
            teacher_file(request.recipe, request.folder, stage)


def _check_same_weights(
    request: Request, stages: list[Stage], results: list[StageResult | None]
) -> None:
    """Refuse a finished stage that is asked for from other first weights."""
    for stage, result in zip(stages, results, strict=True):
        weights = request.weights.get(stage.name)
        if result is None or weights is None:
            continue
        config = stage_folder(request.folder, request.recipe, stage.name).config
        if read_document(config).get("weights") != file_digest(weights):
            raise UserError(
                f"Stage {stage.name} in {request.folder} is finished, and did not begin with "
                f"{weights}. Start it over with --stage {stage.name} --fresh, or choose another "
                "folder with --out."
            )


def _check_first_weights(
    request: Request, plans: list[StagePlan], results: list[StageResult | None]
) -> None:
    """Fetch and read the first weights of the stages after the next one, before hours are spent."""
    waiting = [plan for plan, result in zip(plans, results, strict=True) if result is None]
    for plan in waiting[1:]:
        if request.recipe.pretrained or plan.candidate.stage in request.weights:
            first_weights(request, plan)


@contextmanager
def _fresh_no_more(request: Request) -> Iterator[None]:
    """A sentence that asks for the same command again must not have it start over."""
    try:
        yield
    except (Interrupted, RunFailed) as error:
        if request.fresh:
            error.args = (f"{error} Leave out --fresh then: it starts over.",)
        raise


def _load(request: Request, stop: StopRequest) -> Dataset:
    recipe = request.recipe
    data = load_dataset(
        recipe.dataset,
        recipe.image_size,
        request.data_dir,
        workers=request.num_workers,
        between=lambda: stop.raise_if_asked("No stage was begun."),
    )
    say(
        f"  data  {data.name}: {len(data.classes)} classes; {len(data.train):,} images to train "
        f"on, {len(data.val):,} to validate with, {len(data.test):,} untouched for the test"
    )
    for note in data.notes:
        say(f"  data  {note}")
    return data
