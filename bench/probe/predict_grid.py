"""The grid predicted: families that the journal has are taken from it, the others are traced.

Each family is written to the journal as soon as it is done. Loads torch only where one is missing.
"""

from collections.abc import Iterable, Iterator, Sequence

from bench.probe.grid import cells
from bench.probe.probe_plan import ProbePlan
from bench.simulate.largest_batch import worth_asking
from bench.simulate.prediction import Prediction, Unavailable
from bench.trials.journal import Journal
from bench.trials.trial import Conditions, Outcome, Predicted, Trial, by_stage
from distill.base.errors import UserError
from distill.base.progress import Progress
from distill.spec.bounds import MOST_IMAGES
from distill.spec.candidate import Candidate
from distill.spec.profile import Budget
from distill.spec.step_times import CachingPass


def predict_grid(plan: ProbePlan, journal: Journal) -> list[Trial]:
    """The grid's predictions, from the journal or made now, in the order of the plan's families."""
    conditions = plan.predicted_under
    found: list[Trial] = []
    missing: list[tuple[Candidate, ...]] = []
    for family in plan.families:
        effective_batch = plan.effective_batches[family.stage]
        wanted = tuple(cells(family, effective_batch))
        known = _known(journal.under(conditions), wanted, effective_batch)
        found += known
        if not known:
            missing.append(wanted)
    if missing:
        for trials in _predict_missing(plan, missing):
            journal.add(t for t in trials if journal.done(t.candidate, conditions) is None)
            found += trials
    _refuse_impossible(found)
    return [trial for one in plan.families for trial in found if trial.candidate.same_family(one)]


def _refuse_impossible(trials: Sequence[Trial]) -> None:
    """Raise `UserError` for a stage without any possible configuration, with the first reason."""
    for stage, mine in by_stage(trials).items():
        if all(trial.outcome == "skipped" for trial in mine):
            raise UserError(f"Stage {stage}: {mine[0].error}")


def _predict_missing(
    plan: ProbePlan, missing: list[tuple[Candidate, ...]]
) -> Iterator[list[Trial]]:
    from bench.probe.missing_families import predict_missing  # torch, not needed if all is known

    with Progress("predicting", len(missing), "families") as progress:
        for answers in predict_missing(plan, missing):
            yield [_trial(plan, answer) for answer in answers]
            progress.advance()


def _known(
    trials: Iterable[Trial], wanted: Sequence[Candidate], effective_batch: int
) -> list[Trial]:
    """A family's trials if all are there, up to the first batch that does not fit; else none.

    No batch is too large where the whole family can't be traced, or where `MOST_IMAGES` fit.
    """
    mine = {t.candidate: t for t in trials if t.candidate.same_family(wanted[0])}
    largest = max((c.micro_batch for c, t in mine.items() if t.outcome == "ok"), default=0)
    edge_is_there = largest >= MOST_IMAGES or any(c.micro_batch == largest + 1 for c in mine)
    cannot_be = all(trial.outcome == "skipped" for trial in mine.values())
    needed = worth_asking(wanted, largest, effective_batch)
    complete = (edge_is_there or cannot_be) and all(cell in mine for cell in needed)
    return list(mine.values()) if complete else []


def _trial(plan: ProbePlan, answer: Prediction | Unavailable) -> Trial:
    if isinstance(answer, Unavailable):
        return Trial(
            candidate=answer.candidate,
            conditions=plan.predicted_under,
            pins=plan.pins_of(answer.candidate),
            outcome="skipped",
            reading=None,
            error=answer.words,
        )
    return _predicted(answer, plan.predicted_under, plan.budget)


def _predicted(prediction: Prediction, conditions: Conditions, limit: Budget) -> Trial:
    reading = Predicted(
        requested_bytes=prediction.requested,
        allocated_bytes=prediction.allocated,
        reserved_bytes=prediction.reserved,
        reserved_max_bytes=prediction.reserved_max,
        cap_needed_bytes=prediction.cap_needed,
        bound_images_per_second=prediction.images_per_second,
        timing=prediction.timing,
        breakdown=prediction.breakdown,
        evaluation_batch=prediction.largest_evaluation_batch,
        caching=None if prediction.caching is None else _caching(prediction.caching),
    )
    outcome: Outcome = "ok" if prediction.safe_bytes <= limit.limit_bytes else "oom"
    return Trial(
        candidate=prediction.candidate,
        conditions=conditions,
        pins=prediction.pins,
        outcome=outcome,
        reading=reading,
    )


def _caching(prediction: Prediction) -> CachingPass:
    return CachingPass(
        peak_bytes=prediction.safe_bytes, images_per_second=prediction.expected_images_per_second
    )
