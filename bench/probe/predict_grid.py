"""Predicting the grid: what the journal has is taken from it, each missing family is traced.

Every family is in the journal before the next one is done.
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.probe.grid import cells, effective_batches, families, same_family
from bench.probe.probe_plan import Request
from bench.trials import Conditions, Journal, Outcome, Reading, Trial, prediction_digest
from distill.base.progress import Progress
from distill.base.signals import StopRequest
from distill.spec.candidate import Candidate
from distill.spec.profile import Budget

if TYPE_CHECKING:
    from bench.simulate.predictor import Prediction


def predicted_conditions(request: Request) -> Conditions:
    """What predictions hold for."""
    return Conditions(
        card=request.target.name,
        driver=None,
        cap_bytes=request.budget.limit_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=prediction_digest(),
    )


def predict_grid(request: Request, journal: Journal, stop: StopRequest) -> list[Trial]:
    """The grid's predictions, a family after the other, wherever and whenever they were made."""
    effective = effective_batches(request.recipe)
    conditions = predicted_conditions(request)
    found: list[Trial] = []
    missing: list[tuple[Candidate, ...]] = []
    asked = families(request.recipe, request.target)
    for family in asked:
        wanted = tuple(cells(family, effective[family.stage]))
        known = _known(journal.under(conditions), wanted)
        found += known
        if not known:
            missing.append(wanted)
    if missing:
        for trials in _predict_missing(request, conditions, missing, stop):
            journal.add(t for t in trials if journal.done(t.candidate, conditions) is None)
            found += trials
    return [trial for one in asked for trial in found if same_family(trial.candidate, one)]


def _predict_missing(
    request: Request,
    conditions: Conditions,
    missing: list[tuple[Candidate, ...]],
    stop: StopRequest,
) -> Iterator[list[Trial]]:
    from bench.simulate.families import FamilyJob, predict_families

    effective, limit = effective_batches(request.recipe), request.budget
    jobs = [
        FamilyJob(
            cells=wanted,
            effective_batch=effective[wanted[0].stage],
            target=request.target,
            allocator=request.allocator,
            limit_bytes=limit.limit_bytes,
        )
        for wanted in missing
    ]
    with Progress("predicting", len(jobs), "families") as progress:
        for predictions in predict_families(jobs):
            yield [_predicted(p, conditions, limit) for p in predictions]
            progress.advance()
            stop.raise_if_asked("The predictions so far are kept; the same command goes on.")


def _known(trials: Iterable[Trial], wanted: tuple[Candidate, ...]) -> list[Trial]:
    """A family's trials if all are there, up to the first batch that does not fit; else none."""
    mine = {t.candidate: t for t in trials if same_family(t.candidate, wanted[0])}
    largest = max((c.micro_batch for c, t in mine.items() if t.outcome == "ok"), default=0)
    edge_is_there = any(c.micro_batch == largest + 1 for c in mine)
    complete = edge_is_there and all(cell in mine for cell in wanted)
    return list(mine.values()) if complete else []


def _predicted(prediction: "Prediction", conditions: Conditions, limit: Budget) -> Trial:
    reading = Reading(
        source="predicted",
        requested_bytes=prediction.requested,
        allocated_bytes=prediction.allocated,
        reserved_bytes=prediction.reserved,
        reserved_max_bytes=prediction.reserved_max,
        cap_needed_bytes=prediction.cap_needed,
        bound_images_per_second=prediction.images_per_second,
        breakdown=prediction.breakdown,
        evaluation_batch=prediction.largest_evaluation_batch,
    )
    outcome: Outcome = "ok" if prediction.safe_bytes <= limit.limit_bytes else "oom"
    return Trial(
        candidate=prediction.candidate,
        conditions=conditions,
        pins=prediction.pins,
        outcome=outcome,
        reading=reading,
    )
