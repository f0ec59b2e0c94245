"""Answering `bench predict`: one configuration or the largest batch, as text or as JSON.

Loads torch and hides the GPU: nothing here is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.card.budget import assumed_budget, limit_on
from bench.card.cards import card_notes, has_bf16
from bench.card.releases import release_notes
from bench.card.targets import is_part_of, target_asked
from bench.predict.command import PredictOptions
from bench.predict.document import as_json, fit_document, largest_batch_document
from bench.predict.explain import Gain, gains
from bench.predict.local_batch import local_batch
from bench.predict.question import Question, candidate_for
from bench.predict.snapshot import predicted_snapshot, write_snapshot
from bench.predict.text import (
    fit_line,
    gains_text,
    largest_batch_text,
    prediction_text,
)
from bench.simulate.predictor import Predictor
from bench.simulate.program.program import Program
from bench.simulate.replay import Replay
from distill.base.console import say
from distill.base.errors import UserError
from distill.base.files import check_output
from distill.base.units import MIB, mib
from distill.device.visible_devices import hide_devices
from distill.spec.bounds import MOST_IMAGES
from distill.spec.candidate import Allocator, Candidate, Precision
from distill.spec.own_teacher import asked_teacher
from distill.spec.own_work import OwnWork, with_own_work
from distill.spec.pins import default_allocator
from distill.spec.profile import Target
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import with_own_teacher

DrawTimeline = Callable[[Program, Replay, int | None, str], None]


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """A configuration to predict on a card, and the form of the answer.

    `recipe_batch` is how many images of the recipe's update one of `world_size` processes takes;
    with `fills_update` every batch that is asked about is accumulated to that.
    """

    candidate: Candidate
    recipe_batch: int
    fills_update: bool
    target: Target
    allocator: Allocator
    vram_gib: float | None
    limit_bytes: int
    limit_asked: bool
    max_batch: bool
    as_json: bool
    draw: DrawTimeline | None
    snapshot: Path | None
    explain: bool
    world_size: int


@dataclass(frozen=True)
class PredictAnswer:
    """What is printed, and whether what was asked about fits: with `--max-batch`, whether any."""

    text: str
    fits: bool


def request_of(options: PredictOptions) -> PredictRequest:
    """The command line as a request. Raises `UserError` for a picture that can't be drawn."""
    draw = None if options.plot is None else _drawing(options.plot)
    if options.snapshot is not None:
        check_output(options.snapshot)
    target = target_asked(options.target_name, options.vram)
    recipe = _recipe(options)
    recipe_batch = local_batch(recipe, _question(options, 1), options.world_size)
    return PredictRequest(
        candidate=candidate_for(recipe, _question(options, recipe_batch)),
        recipe_batch=recipe_batch,
        fills_update=options.accumulation == "recipe",
        target=target,
        allocator=options.allocator or default_allocator(),
        vram_gib=options.vram,
        limit_bytes=_limit_bytes(options, target),
        limit_asked=options.vram is not None or options.limit_mib is not None,
        max_batch=options.max_batch,
        as_json=options.as_json,
        draw=draw,
        snapshot=options.snapshot,
        explain=options.explain,
        world_size=options.world_size,
    )


def _drawing(path: Path) -> DrawTimeline:
    """The function that draws to `path`. Raises `UserError` where no picture can be written."""
    from bench.predict.timeline import drawing_to  # matplotlib, which few questions need

    return drawing_to(path)


def _question(options: PredictOptions, recipe_batch: int) -> Question:
    batch = options.batch_size or 1
    return Question(
        stage=options.stage,
        batch_size=batch,
        accumulation=-(-recipe_batch // batch)
        if options.accumulation == "recipe"
        else options.accumulation,
        precision=options.precision,
        checkpointing=options.checkpointing,
        optimizer=options.optimizer,
        implementation=options.implementation,
        model=options.model,
        teacher=options.teacher_name,
        teacher_mode=options.teacher_mode,
        image_size=options.image_size,
        classes=options.classes,
        deterministic=options.deterministic,
    )


def _recipe(options: PredictOptions) -> Recipe:
    """The recipe, on other data and with the user's own teacher where they are named."""
    asked = asked_teacher(options.teacher_weights, options.teacher_model, options.stage)
    recipe, work = load_recipe(options.recipe_name), OwnWork(dataset=options.dataset)
    return with_own_work(with_own_teacher(recipe, asked), work)


def _limit_bytes(options: PredictOptions, target: Target) -> int:
    """What PyTorch may reserve. Raises `UserError` for more than the card has."""
    if options.limit_mib is None:
        if options.vram is None:
            return limit_on(target)
        return assumed_budget(options.vram, target).limit_bytes
    if options.limit_mib * MIB > target.total_bytes:
        raise UserError(
            f"--limit-mib {options.limit_mib} is more than {target.title} has, which is "
            f"{mib(target.total_bytes)} MiB. Give less, or another --target."
        )
    return options.limit_mib * MIB


def answer(request: PredictRequest) -> PredictAnswer:
    """The answer, its verdict last; draws the picture on the way, if one is wanted."""
    target = request.target
    if request.candidate.precision == "bf16" and not has_bf16(target.compute_capability):
        raise UserError(
            f"{target.title} has no bf16, which needs compute capability 8.0. "
            "Give --precision fp16 or fp32."
        )
    hide_devices()
    predictor = Predictor(target, request.allocator, replicas=request.world_size)
    if request.max_batch:
        return _largest(request, predictor)
    prediction = predictor.predict(request.candidate)
    found = _gains(request, predictor, request.candidate)
    _plot(request, predictor, request.candidate)
    _write_snapshot(request, predictor, request.candidate)
    fits = prediction.safe_bytes <= request.limit_bytes
    if request.as_json:
        document = fit_document(prediction, request.limit_bytes, found)
        return PredictAnswer(as_json(document), fits)
    verdict = fit_line(prediction, request.limit_bytes)
    parts = [prediction_text(prediction), *_notes(request), *_gains_words(found), verdict]
    return PredictAnswer("\n\n".join(parts), fits)


def _notes(request: PredictRequest) -> list[str]:
    """What is to be known of torch and the card, and of what the question left out of an update."""
    return [
        *release_notes(),
        *_card_notes(request),
        *_process_notes(request),
        *_update_notes(request),
    ]


def _process_notes(request: PredictRequest) -> list[str]:
    if request.world_size == 1:
        return []
    return [
        f"One of {request.world_size:,} processes, with the buckets that gradients are sent in. "
        "What NCCL takes beside PyTorch, and the time on the wire, are not predicted."
    ]


def _card_notes(request: PredictRequest) -> list[str]:
    target, vram = request.target, request.vram_gib
    notes = card_notes(target, half=request.candidate.precision == "fp16")
    if vram is not None and is_part_of(target, vram):
        notes.insert(0, f"--vram {vram:g} is a part of {target.title}: as if no more were there.")
    return notes


def _update_notes(request: PredictRequest) -> list[str]:
    candidate, whole = request.candidate, request.recipe_batch
    is_whole = request.fills_update or (candidate.micro_batch >= whole and not request.max_batch)
    if is_whole or candidate.accumulation > 1:
        return []
    most = f" distill run takes {whole} images at a time at most." if request.max_batch else ""
    return [
        f"One micro-batch an update. The recipe's update has {whole} images"
        f"{' for each process' if request.world_size > 1 else ''}, which bench probe "
        f"makes of several: --accumulation recipe.{most}"
    ]


def _largest(request: PredictRequest, predictor: Predictor) -> PredictAnswer:
    candidate, limit = request.candidate, request.limit_bytes
    predictor.fit_family(candidate)
    effective_batch = request.recipe_batch if request.fills_update else None
    batch = predictor.largest_batch(candidate, limit, effective_batch=effective_batch)

    def at(size: int) -> Candidate:
        if effective_batch is None:
            return replace(candidate, micro_batch=size)
        return candidate.with_batch(size, effective_batch)

    best = predictor.predict(at(batch)) if batch else None
    following = None if batch == MOST_IMAGES else predictor.predict(at(batch + 1))
    shown = at(max(batch, 1))
    found = _gains(request, predictor, shown)
    _plot(request, predictor, shown)
    _write_snapshot(request, predictor, shown)
    if request.as_json:
        document = largest_batch_document(best, following, limit, found)
        return PredictAnswer(as_json(document), best is not None)
    parts = [largest_batch_text(best, following, limit), *_notes(request), *_gains_words(found)]
    judged = best or following
    if judged is not None:
        verdict = f"micro-batch {judged.candidate.micro_batch}: {fit_line(judged, limit)}"
        parts.append(verdict)
    return PredictAnswer("\n\n".join(parts), best is not None)


def _plot(request: PredictRequest, predictor: Predictor, candidate: Candidate) -> None:
    if request.draw is None:
        return
    program, run = predictor.run(candidate, timeline=True)
    title = f"{candidate.student.title}, {candidate.label}, {candidate.micro_batch} images"
    limit_bytes = request.limit_bytes if request.limit_asked else None
    request.draw(program, run, limit_bytes, f"{title}, predicted")


def _write_snapshot(request: PredictRequest, predictor: Predictor, candidate: Candidate) -> None:
    """Write the history for PyTorch's viewer, if it is wanted, and say how it is looked at."""
    if request.snapshot is None:
        return
    program, run = predictor.run(candidate)
    document = predicted_snapshot(
        program, run.peak.sizes, request.allocator, device_bytes=request.target.total_bytes
    )
    write_snapshot(request.snapshot, document)
    events = len(document["device_traces"][0])
    say(
        f"Wrote {request.snapshot}: {events:,} predicted events. "
        "Drop it on https://pytorch.org/memory_viz, which reads it in the browser."
    )


def _gains(
    request: PredictRequest, predictor: Predictor, candidate: Candidate
) -> list[Gain] | None:
    if not request.explain:
        return None
    half: Precision = "bf16" if has_bf16(request.target.compute_capability) else "fp16"

    def predicted(other: Candidate) -> tuple[int, float]:
        prediction = predictor.predict(other)
        return prediction.safe_bytes, prediction.expected_images_per_second

    return gains(candidate, predicted, half=half)


def _gains_words(found: list[Gain] | None) -> list[str]:
    return [] if found is None else [gains_text(found)]
