"""The probe: every cell predicted, what is worth it measured, a profile chosen from both.

Joins `grid`, `predict`, `measure` and `choose`. Every trial is in the journal before the next
one begins, and what is there is not done again.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.cards import assumed_budget, budget
from bench.choose import choose, verdict
from bench.grid import cells, effective_batches, families, same_family
from bench.measure.card import CardFacts
from bench.measure.isolate import run_trial
from bench.measure.worker import Job
from bench.progress import Progress
from bench.trials import Conditions, Journal, Outcome, Reading, Trial, code_digest
from distill.candidate import Allocator, Candidate, StageName
from distill.pins import pins_for
from distill.profile import Budget, Choice, Fingerprint, Profile, RecipeMark, Target
from distill.recipe import Recipe
from distill.signals import StopRequest

if TYPE_CHECKING:
    from bench.predict.predictor import Prediction

MEASURED_PER_FAMILY = 2
"""How many micro-batches of a family are measured, from the largest that may be chosen down."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `bench probe` was asked for. `card` is the device that is there, if any."""

    recipe: Recipe
    vram_gib: float
    target: Target
    card: CardFacts | None
    allocator: Allocator
    device: Literal["cuda", "cpu", "predict"]
    name: str
    journal: Path


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What came of it: the budget, every prediction, and every measured or skipped trial."""

    budget: Budget
    predicted: tuple[Trial, ...]
    measured: tuple[Trial, ...]


def probe(request: Request, stop: StopRequest) -> Probed:
    """Predict the grid, then measure. Raises `Interrupted` when asked to stop, trials kept."""
    limit = budget_for(request)
    journal = Journal(request.journal)
    if journal.torn:
        print(f"  {journal.torn} torn line(s) of {journal.path} left out", file=sys.stderr)
    predicted = _predict(request, limit, journal, stop)
    measured: list[Trial] = []
    if request.device != "predict":
        measured = _measure(request, limit, journal, predicted, stop)
    return Probed(budget=limit, predicted=tuple(predicted), measured=tuple(measured))


def budget_for(request: Request) -> Budget:
    """The limit: from the card that is measured on, as far as it is no larger than asked for."""
    assumed = assumed_budget(request.vram_gib)
    if request.card is None or request.device != "cuda":
        return assumed
    smaller = request.card.total_bytes <= assumed.card_total_bytes
    return budget(
        request.vram_gib,
        card_total_bytes=min(request.card.total_bytes, assumed.card_total_bytes),
        card_total_source="measured" if smaller else "assumed",
        context_bytes=request.card.context_bytes,
        context_source="measured",
    )


def make_profile(request: Request, probed: Probed) -> Profile:
    """The profile from what was probed. Raises `NoSafeChoice` when a stage has none."""
    stages: list[StageName] = [stage.name for stage in request.recipe.stage]
    trials = [*probed.predicted, *(t for t in probed.measured if t.conditions.card != "cpu")]
    chosen = choose(trials, stages, probed.budget, effective_batches(request.recipe))
    predicted = {
        trial.candidate: trial.reading for trial in probed.predicted if trial.reading is not None
    }
    return Profile(
        name=request.name,
        status="predicted",
        recipe=RecipeMark(name=request.recipe.name, digest=request.recipe.digest()),
        target=request.target,
        budget=probed.budget,
        choices=tuple(_choice(chosen[stage], predicted) for stage in stages),
        pins={stage: chosen[stage].pins for stage in stages},
        fingerprint=_fingerprint(request),
        evidence=(request.journal.as_posix(),),
    )


def _choice(trial: Trial, predicted: dict[Candidate, Reading]) -> Choice:
    """The chosen trial, with what only its prediction knows: owners and evaluation batch."""
    reading, candidate = trial.reading, trial.candidate
    assert reading is not None and reading.reserved_bytes is not None
    return Choice(
        stage=candidate.stage,
        student=candidate.student.name,
        teacher=None if candidate.teacher is None else candidate.teacher.name,
        candidate=replace(candidate, evaluation_batch=predicted[candidate].evaluation_batch),
        peak_reserved_bytes=reading.reserved_bytes,
        breakdown=predicted[candidate].breakdown or {},
        images_per_second=trial.images_per_second,
        source=reading.source,
    )


def _fingerprint(request: Request) -> Fingerprint:
    torch, timm = version("torch"), version("timm")
    if request.card is None or request.device != "cuda":
        return Fingerprint(torch=torch, timm=timm)
    return Fingerprint(
        torch=torch,
        timm=timm,
        card=request.card.name,
        card_total_bytes=request.card.total_bytes,
        compute_capability=request.card.compute_capability,
        driver=request.card.driver,
    )


# -- predicting


def _predict(request: Request, limit: Budget, journal: Journal, stop: StopRequest) -> list[Trial]:
    """The grid's predictions: the journal's, and each missing family's as it is done."""
    effective = effective_batches(request.recipe)
    conditions = _conditions(request.target.name, None, limit.limit_bytes)
    found: list[Trial] = []
    missing: list[tuple[Candidate, ...]] = []
    for family in families(request.recipe, request.target):
        wanted = tuple(cells(family, effective[family.stage]))
        known = _known(journal.under(conditions), wanted)
        found += known
        if not known:
            missing.append(wanted)
    if missing:
        for trials in _predict_missing(request, limit, conditions, missing, stop):
            journal.add(trials)
            found += trials
    return found


def _predict_missing(
    request: Request,
    limit: Budget,
    conditions: Conditions,
    missing: list[tuple[Candidate, ...]],
    stop: StopRequest,
) -> Iterator[list[Trial]]:
    from bench.predict.grid import FamilyJob, predict_families

    effective = effective_batches(request.recipe)
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


# -- measuring


def _measure(
    request: Request,
    limit: Budget,
    journal: Journal,
    predicted: list[Trial],
    stop: StopRequest,
) -> list[Trial]:
    """Run what predictions recommend; say of the rest why it was not tried."""
    on_cuda = request.device == "cuda"
    cap_bytes = limit.limit_bytes if on_cuda else None
    conditions = _conditions("cpu", None, cap_bytes)
    if on_cuda and request.card is not None:
        conditions = _conditions(request.card.name, request.card.driver, cap_bytes)
    effective = effective_batches(request.recipe)
    chosen, skipped = _worth_measuring(predicted, limit, effective, on_cuda)
    found = [
        replace(trial, conditions=conditions, outcome="skipped", reading=None, error=why)
        for trial, why in skipped
    ]
    journal.add(trial for trial in found if journal.done(trial.candidate, conditions) is None)
    with Progress("measuring", len(chosen), "trials") as progress:
        for trial in chosen:
            done = journal.done(trial.candidate, conditions)
            if done is None or done.outcome == "skipped":
                done = run_trial(_job(request, trial.candidate, cap_bytes), conditions)
                journal.add([done])
            found.append(done)
            progress.advance()
            stop.raise_if_asked("The trials so far are kept; the same command goes on.")
    return found


def _worth_measuring(
    predicted: list[Trial], limit: Budget, effective: dict[StageName, int], on_cuda: bool
) -> tuple[list[Trial], list[tuple[Trial, str]]]:
    """The trials to run, largest batch first, and the others with the reason against them."""
    chosen: list[Trial] = []
    skipped: list[tuple[Trial, str]] = []
    for trial in sorted(predicted, key=lambda trial: -trial.candidate.micro_batch):
        judged = verdict(trial, limit, effective[trial.candidate.stage])
        taken = sum(same_family(trial.candidate, other.candidate) for other in chosen)
        if not on_cuda and trial.candidate.precision != "fp32":
            skipped.append((trial, "not timed on a CPU"))
        elif not judged.eligible:
            skipped.append((trial, f"predicted: {judged.words}"))
        elif taken >= MEASURED_PER_FAMILY:
            skipped.append((trial, "larger micro-batches of it are measured"))
        else:
            chosen.append(trial)
    return chosen, skipped


def _job(request: Request, candidate: Candidate, cap_bytes: int | None) -> Job:
    pins = pins_for(
        candidate.precision,
        request.target.compute_capability,
        deterministic=candidate.deterministic,
        allocator=request.allocator,
    )
    if request.device == "cuda":
        return Job(candidate=candidate, pins=pins, device="cuda", cap_bytes=cap_bytes)
    there = replace(candidate, implementation="foreach")
    return Job(
        candidate=there, pins=pins, device="cpu", cap_bytes=None, warmup_steps=1, timed_steps=3
    )


def _conditions(card: str, driver: str | None, cap_bytes: int | None) -> Conditions:
    return Conditions(
        card=card,
        driver=driver,
        cap_bytes=cap_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=code_digest(),
    )
