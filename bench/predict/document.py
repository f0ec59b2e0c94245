"""Answers of `bench predict --json` as typed values, from which `bench.schema` makes their schema.

Pure. `context_bytes` is assumed and outside the sum of `breakdown`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from bench.card.budget import CONTEXT_BYTES
from bench.predict.explain import Gain
from bench.simulate.prediction import Allocation, Prediction
from distill.spec.calibration import Calibration
from distill.spec.candidate import Candidate
from distill.spec.file_values import Breakdown, Bytes
from distill.spec.frozen import unsaid
from distill.spec.pins import Pins
from distill.spec.profile import Target

OnlyIfKnown = Field(exclude_if=unsaid)


@dataclass(frozen=True, kw_only=True)
class TimingDocument:
    """The predicted time of an update, and what bounds it."""

    update_seconds: float
    images_per_second: float
    product_seconds: float
    memory_seconds: float
    host_seconds: float
    launches: int
    launching_seconds: float
    evaluated_per_second: float
    calibration: Calibration


@dataclass(frozen=True, kw_only=True)
class GainDocument:
    """A change that would need less, as `--explain` lists it."""

    change: str
    needed_bytes: Bytes
    saved_bytes: Bytes
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class PredictionDocument:
    """A prediction. The pass that makes a teacher's logits is there where the step reads them."""

    candidate: Candidate
    target: Target
    pins: Pins
    peak_requested_bytes: Bytes
    peak_allocated_bytes: Bytes
    peak_reserved_bytes: Bytes
    peak_reserved_max_bytes: Bytes
    cudnn_bound_bytes: Bytes
    cap_needed_bytes: Bytes
    context_bytes: Bytes
    context_source: Literal["assumed"]
    breakdown: Breakdown
    peak_phase: str
    peak_part: str
    largest: tuple[Allocation, ...]
    bound_images_per_second: float
    timing: TimingDocument
    source: Literal["predicted"]
    torch: str
    trace_seconds: float
    caching_peak_bytes: Annotated[Bytes | None, OnlyIfKnown] = None
    caching_images_per_second: Annotated[float | None, OnlyIfKnown] = None
    world_size: Annotated[int | None, OnlyIfKnown] = None


@dataclass(frozen=True, kw_only=True)
class FitDocument(PredictionDocument):
    """One configuration: its prediction, whether it fits, and the bytes left or missing."""

    limit_bytes: Bytes
    fits: bool
    left_bytes: Bytes
    missing_bytes: Bytes
    explain: Annotated[tuple[GainDocument, ...] | None, OnlyIfKnown] = None


@dataclass(frozen=True, kw_only=True)
class MisfitDocument:
    """The first batch that does not fit."""

    batch: int
    needed_bytes: Bytes
    over_bytes: Bytes


@dataclass(frozen=True, kw_only=True)
class LargestBatchDocument:
    """The largest batch that fits, and the first that does not, `None` if all do that are taken."""

    max_batch: int
    limit_bytes: Bytes
    fits: bool
    prediction: PredictionDocument | None
    first_that_does_not_fit: MisfitDocument | None
    explain: Annotated[tuple[GainDocument, ...] | None, OnlyIfKnown] = None


PredictDocument = FitDocument | LargestBatchDocument


def as_json(document: PredictDocument) -> str:
    """One JSON document."""
    kind = TypeAdapter(type(document))
    return json.dumps(kind.dump_python(document, mode="json"), indent=2)


def fit_document(
    prediction: Prediction, limit_bytes: int, gains: Sequence[Gain] | None = None
) -> FitDocument:
    """A prediction, and whether it fits in what is there."""
    return FitDocument(
        **_predicted(prediction),
        limit_bytes=limit_bytes,
        fits=prediction.safe_bytes <= limit_bytes,
        left_bytes=max(0, limit_bytes - prediction.safe_bytes),
        missing_bytes=max(0, prediction.safe_bytes - limit_bytes),
        explain=_explained(gains),
    )


def largest_batch_document(
    best: Prediction | None,
    following: Prediction | None,
    limit_bytes: int,
    gains: Sequence[Gain] | None = None,
) -> LargestBatchDocument:
    """The largest batch that fits, and the first that does not."""
    return LargestBatchDocument(
        max_batch=0 if best is None else best.candidate.micro_batch,
        limit_bytes=limit_bytes,
        fits=best is not None,
        prediction=None if best is None else PredictionDocument(**_predicted(best)),
        first_that_does_not_fit=None
        if following is None
        else MisfitDocument(
            batch=following.candidate.micro_batch,
            needed_bytes=following.safe_bytes,
            over_bytes=following.safe_bytes - limit_bytes,
        ),
        explain=_explained(gains),
    )


def _predicted(prediction: Prediction) -> dict[str, Any]:
    """The fields that every prediction has."""
    caching = prediction.caching
    return {
        "candidate": prediction.candidate,
        "target": prediction.target,
        "pins": prediction.pins,
        "peak_requested_bytes": prediction.requested,
        "peak_allocated_bytes": prediction.allocated,
        "peak_reserved_bytes": prediction.reserved,
        "peak_reserved_max_bytes": prediction.reserved_max,
        "cudnn_bound_bytes": prediction.workspace_bound,
        "cap_needed_bytes": prediction.cap_needed,
        "context_bytes": CONTEXT_BYTES,
        "context_source": "assumed",
        "breakdown": prediction.breakdown,
        "peak_phase": prediction.peak_phase,
        "peak_part": prediction.peak_part,
        "largest": prediction.largest,
        "bound_images_per_second": prediction.images_per_second,
        "timing": _timing(prediction),
        "source": "predicted",
        "torch": prediction.torch,
        "trace_seconds": prediction.trace_seconds,
        "caching_peak_bytes": None if caching is None else caching.safe_bytes,
        "caching_images_per_second": None
        if caching is None
        else caching.expected_images_per_second,
        "world_size": prediction.replicas if prediction.replicas > 1 else None,
    }


def _timing(prediction: Prediction) -> TimingDocument:
    timing = prediction.timing
    return TimingDocument(
        update_seconds=timing.seconds,
        images_per_second=prediction.expected_images_per_second,
        product_seconds=timing.product_seconds,
        memory_seconds=timing.memory_seconds,
        host_seconds=timing.host_seconds,
        launches=timing.launches,
        launching_seconds=timing.launching_seconds,
        evaluated_per_second=timing.evaluated_per_second,
        calibration=timing.calibration,
    )


def _explained(gains: Sequence[Gain] | None) -> tuple[GainDocument, ...] | None:
    if gains is None:
        return None
    return tuple(
        GainDocument(
            change=gain.proposal.words,
            needed_bytes=gain.needed_bytes,
            saved_bytes=gain.saved_bytes,
            images_per_second=gain.images_per_second,
        )
        for gain in gains
    )
