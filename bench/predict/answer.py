"""Answering `bench predict`: one configuration or the largest batch, as text or as JSON.

Joins the predictor to `show`, `explain` and `plots`; loads torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.predict.explain import Gain, gains
from bench.predict.text import (
    as_json,
    gains_text,
    largest_batch_document,
    largest_batch_text,
    prediction_document,
    prediction_text,
)
from bench.probe.grid import label
from bench.probe.grid_pictures import draw_timeline
from bench.simulate.predictor import Prediction, Predictor
from distill.base.errors import UserError
from distill.device.visible_devices import hide_devices
from distill.spec.candidate import Allocator, Candidate, Precision
from distill.spec.profile import Target


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is to be predicted, and how it is to be told."""

    candidate: Candidate
    target: Target
    allocator: Allocator
    limit_bytes: int | None
    max_batch: bool
    as_json: bool
    plot: Path | None
    explain: bool


def answer(ask: Ask) -> str:
    """The answer as it is printed; draws the picture on the way, if one is wanted."""
    target = ask.target
    if ask.candidate.precision == "bf16" and target.compute_capability < (8, 0):
        raise UserError(
            f"{target.title} has no bf16, which needs compute capability 8.0. "
            "Give --precision fp16 or fp32."
        )
    hide_devices()
    predictor = Predictor(target, ask.allocator)
    if ask.max_batch:
        return _largest(ask, predictor)
    prediction = predictor.predict(ask.candidate)
    found = _gains(ask, predictor, ask.candidate)
    _plot(ask, predictor, ask.candidate)
    if ask.as_json:
        return as_json(prediction_document(prediction) | _gains_document(found))
    return "\n\n".join([prediction_text(prediction), *_gains_words(found)])


def _largest(ask: Ask, predictor: Predictor) -> str:
    assert ask.limit_bytes is not None
    candidate, limit = ask.candidate, ask.limit_bytes
    predictor.cover(candidate)
    batch = predictor.largest_batch(candidate, limit)
    best: Prediction | None = None
    if batch:
        best = predictor.predict(replace(candidate, micro_batch=batch))
    following = predictor.predict(replace(candidate, micro_batch=batch + 1))
    shown = following.candidate if best is None else best.candidate
    found = _gains(ask, predictor, shown)
    _plot(ask, predictor, shown)
    if ask.as_json:
        return as_json(largest_batch_document(best, following, limit) | _gains_document(found))
    return "\n\n".join([largest_batch_text(best, following, limit), *_gains_words(found)])


def _plot(ask: Ask, predictor: Predictor, candidate: Candidate) -> None:
    if ask.plot is None:
        return
    program, run = predictor.run(candidate, timeline=True)
    title = f"{candidate.student.title}, {label(candidate)}, {candidate.micro_batch} images"
    draw_timeline(ask.plot, program, run, ask.limit_bytes, f"{title}, predicted")


def _gains(ask: Ask, predictor: Predictor, candidate: Candidate) -> list[Gain] | None:
    if not ask.explain:
        return None
    half: Precision = "bf16" if ask.target.compute_capability >= (8, 0) else "fp16"
    return gains(candidate, lambda c: predictor.predict(c).safe_bytes, half=half)


def _gains_document(found: list[Gain] | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "explain": [
            {
                "change": gain.proposal.words,
                "needed_bytes": gain.needed_bytes,
                "saved_bytes": gain.saved_bytes,
            }
            for gain in found
        ]
    }


def _gains_words(found: list[Gain] | None) -> list[str]:
    return [] if found is None else [gains_text(found)]
