"""Models side by side as rows of tables: their size, their training, their accuracy. Pure."""

from collections.abc import Mapping, Sequence

from bench.models.compared_models import Comparison
from bench.models.model_claims import ModelClaims
from bench.models.model_figures import CellFigures, ModelFigures, short_title
from bench.models.model_scores import ModelRecording, ModelScore
from bench.models.time_models import TimedModel
from distill.base.units import MIB, count_text, mib, percent, rate
from distill.report.tables import ACCURACY_TITLE, Row, accuracy_text
from distill.spec.candidate import ModelSpec


def size_rows(models: Sequence[ModelFigures]) -> list[Row]:
    """One row a model: what kind it is and how large, beside what the write-up says."""
    claims = ModelClaims()
    return [
        {
            "model": one.name,
            "kind": one.kind,
            "parameters": count_text(one.parameters),
            "claims": _claimed(claims.parameters(one), 1e-6, " M"),
            "fp32 MiB": f"{4 * one.parameters / MIB:,.1f}",
            "16-bit MiB": f"{2 * one.parameters / MIB:,.1f}",
            "claims MB": _claimed(claims.half_megabytes(one)),
        }
        for one in models
    ]


def training_rows(
    plan: Comparison, models: Sequence[ModelFigures], timed: Mapping[ModelSpec, TimedModel]
) -> list[Row]:
    """One row a model: peak, the largest batch and the speed in the plan's first configuration."""
    return [_training_row(plan, one, timed.get(one.model), bool(timed)) for one in models]


def _training_row(
    plan: Comparison, model: ModelFigures, timed: TimedModel | None, any_timed: bool
) -> Row:
    cell = model.cell(plan.precision, 0)
    row = {"model": model.name, "peak MiB": mib(None if cell is None else cell.reserved_bytes)}
    row["needs MiB"] = mib(None if cell is None else cell.needed_bytes)
    if any_timed:
        row["measured MiB"] = mib(None if timed is None else timed.reserved_bytes)
    row["share"] = _of_limit(cell, plan.limit_bytes)
    row["fits up to"] = "–" if cell is None else str(cell.largest_batch)
    if timed is not None:
        return row | {"images/s": rate(timed.images_per_second), "speed": "measured"}
    predicted = None if cell is None else cell.images_per_second
    return row | {
        "images/s": rate(predicted),
        "speed": "–" if cell is None else "predicted",
    }


def accuracy_table_rows(
    plan: Comparison, models: Sequence[ModelFigures], scores: Sequence[ModelScore]
) -> list[Row]:
    """One row a model and run: accuracy on the untouched test images, beside what is claimed."""
    claims = ModelClaims()
    rows: list[Row] = []
    for one in models:
        claimed = {"claims %": _claimed(claims.accuracy(one, plan.recipe), 100)}
        mine = [score for score in scores if score.model == one.model]
        rows += [{"model": one.name} | _score_cells(score, claimed) for score in mine]
        if not mine:
            none = {ACCURACY_TITLE: "–"} | claimed | {"taught by": "–", "run": "none"}
            rows.append({"model": one.name} | none)
    return rows


def recorded_rows(found: Sequence[ModelRecording]) -> list[Row]:
    """One row a configuration and card: what the card reserved of it."""
    return [
        {
            "model": short_title(one.candidate.student),
            "configuration": one.candidate.label,
            "card": one.card,
            "reserved MiB": mib(one.reserved_bytes),
        }
        for one in found
    ]


def _score_cells(score: ModelScore, claimed: Row) -> Row:
    result = score.result
    return {
        ACCURACY_TITLE: accuracy_text(result.test_accuracy, result.test_images),
        **claimed,
        "taught by": "–" if score.teacher is None else short_title(score.teacher),
        "run": str(score.run),
    }


def _of_limit(cell: CellFigures | None, limit_bytes: int) -> str:
    """The share of the limit that has to be there."""
    if cell is None or cell.needed_bytes is None:
        return "–"
    return percent(cell.needed_bytes, limit_bytes)


def _claimed(value: float | None, times: float = 1, unit: str = "") -> str:
    """A figure of the write-up; a dash where it has none."""
    return "–" if value is None else f"{value * times:g}{unit}"
