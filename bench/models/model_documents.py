"""What is known of the models that are compared, as plain values: one document, or a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.models.compared_models import Comparison
from bench.models.model_claims import EFFECTS, ModelClaims
from bench.models.model_figures import CellFigures, ModelFigures
from bench.models.model_scores import ModelRecording, ModelScore
from bench.models.time_models import TimedModel
from distill.spec.candidate import ModelSpec

WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Bytes of a parameter."""


@dataclass(frozen=True, kw_only=True)
class ModelsAnswer:
    """All that is known of the models; `timed_on` names the card on which they were timed."""

    plan: Comparison
    models: Sequence[ModelFigures]
    scores: Sequence[ModelScore]
    recordings: Sequence[ModelRecording]
    timed: Mapping[ModelSpec, TimedModel]
    timed_on: str | None


def models_document(found: ModelsAnswer) -> dict[str, Any]:
    """Everything as plain values, bytes and fractions; `claimed` is the write-up's."""
    plan, claims = found.plan, ModelClaims()
    return {
        "recipe": plan.recipe.name,
        "dataset": plan.recipe.dataset,
        "target": plan.target.model_dump(mode="json"),
        "allocator": plan.allocator,
        "limit_bytes": plan.limit_bytes,
        "precision": plan.precision,
        "micro_batch": plan.micro_batch,
        "timed_on": found.timed_on,
        "models": [_model_document(found, one) for one in found.models],
        "claimed": {name: claims.value(name) for name in EFFECTS},
    }


def _model_document(found: ModelsAnswer, one: ModelFigures) -> dict[str, Any]:
    claims, timed = ModelClaims(), found.timed.get(one.model)
    return {
        "name": one.name,
        "model": asdict(one.model),
        "kind": one.kind,
        "parameters": one.parameters,
        "weight_bytes": {name: size * one.parameters for name, size in WEIGHT_BYTES.items()},
        "claimed": {
            "parameters": claims.parameters(one),
            "fp16_megabytes": claims.half_megabytes(one),
            "accuracy": claims.accuracy(one, found.plan.recipe),
        },
        "measured": None if timed is None else asdict(timed),
        "accuracies": [
            {
                "run": str(score.run),
                "stage": score.result.stage,
                "taught_by": None if score.teacher is None else score.teacher.name,
                "test_accuracy": score.result.test_accuracy,
                "test_images": score.result.test_images,
            }
            for score in found.scores
            if score.model == one.model
        ],
        "configurations": [_cell_document(found, cell) for cell in one.cells],
    }


def _cell_document(found: ModelsAnswer, cell: CellFigures) -> dict[str, Any]:
    candidate = cell.candidate
    return {
        "precision": candidate.precision,
        "checkpointing": candidate.checkpointing,
        "peak_reserved_bytes": cell.reserved_bytes,
        "needed_bytes": cell.needed_bytes,
        "cudnn_bound_bytes": cell.bound_bytes,
        "fits": None if cell.needed_bytes is None else cell.needed_bytes <= found.plan.limit_bytes,
        "images_per_second": cell.images_per_second,
        "source": "predicted",
        "largest_batch": cell.largest_batch,
        "recorded_bytes": {
            one.card: one.reserved_bytes for one in found.recordings if one.candidate == candidate
        },
        "refused": cell.refused,
    }


def model_records(found: ModelsAnswer) -> list[dict[str, Any]]:
    """A record for each configuration of each model."""
    return [
        {"model": one.name, "kind": one.kind, "parameters": one.parameters}
        | {
            "micro_batch": found.plan.micro_batch,
            **_cell_document(found, cell),
            "recorded_bytes": max(
                (r.reserved_bytes for r in found.recordings if r.candidate == cell.candidate),
                default=None,
            ),
        }
        for one in found.models
        for cell in one.cells
    ]
