"""What was measured of models: accuracies of runs that are there, and recordings of cards."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.evidence.comparison import RESERVED_PEAK, recordings_in
from bench.models.compared_models import Comparison
from bench.models.model_figures import short_title
from distill.base.errors import UserError
from distill.report.found_run import DEFAULT_OUT, FoundRun, find_run
from distill.spec.candidate import Candidate, ModelSpec
from distill.train.run_folder import MANIFEST, StageResult


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """The result of a stage that trained a model; `teacher` is what taught it, if anything."""

    model: ModelSpec
    teacher: ModelSpec | None
    result: StageResult
    run: Path


@dataclass(frozen=True, kw_only=True)
class ModelRecording:
    """The reserved peak that a card recorded of a configuration."""

    candidate: Candidate
    reserved_bytes: int
    card: str


def scores_of(plan: Comparison, runs: Sequence[Path]) -> list[ModelScore]:
    """The results of those models in the runs that are named, or in all below `results/`.

    Raises `UserError` for a named run that trained none of them on the recipe's data.
    """
    found: list[ModelScore] = []
    for folder in runs:
        scores = scores_in(plan, find_run(folder))
        if not scores:
            names = ", ".join(short_title(cells[0].student) for cells in plan.models)
            raise UserError(
                f"{folder} trained none of these models on {plan.recipe.dataset}: {names}. Name "
                "its recipe with --recipe, its models with --models, or leave --run out."
            )
        found += scores
    if not runs:
        for manifest in sorted(DEFAULT_OUT.glob(f"*/*/{MANIFEST}")):
            with suppress(UserError):  # nobody named it: not finished, or another version's
                found += scores_in(plan, find_run(manifest.parent))
    return found


def recorded_models(plan: Comparison, evidence: Path) -> list[ModelRecording]:
    """The largest peak that each card recorded of each configuration, as updates were made here.

    How many images an epoch has and how it is evaluated is left aside: no peak was found there.
    """
    wanted = {_as_recorded(cell): cell for cells in plan.models for cell in cells}
    found: dict[tuple[Candidate, str], int] = {}
    for golden in recordings_in(evidence):
        for recording in golden.recordings:
            cell = wanted.get(_as_recorded(recording.candidate))
            if recording.source == "recorded" and cell is not None:
                key, peak = (cell, golden.target.title), recording.statistics[RESERVED_PEAK]
                found[key] = max(peak, found.get(key, 0))
    return [
        ModelRecording(candidate=cell, card=card, reserved_bytes=found[cell, card])
        for cells in plan.models
        for cell in cells
        for card in sorted({card for _, card in found})
        if (cell, card) in found
    ]


def _as_recorded(candidate: Candidate) -> Candidate:
    return replace(candidate, images_per_epoch=None, evaluation_batch=None)


def scores_in(plan: Comparison, run: FoundRun) -> list[ModelScore]:
    """The results of those models in one run; none where it is of other data."""
    if run.recipe.dataset != plan.recipe.dataset:
        return []
    candidates = {stage.name: run.recipe.candidate(stage.name) for stage in run.recipe.stage}
    models = [cells[0].student for cells in plan.models]
    return [
        ModelScore(
            model=candidates[result.stage].student,
            teacher=candidates[result.stage].teacher,
            result=result,
            run=run.folder,
        )
        for result in run.results()
        if candidates[result.stage].student in models
    ]
