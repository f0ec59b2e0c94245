"""Predicting models: what kind each is, how large, and every configuration. Loads torch.

An edit of this module makes kept figures anew.
"""

from collections.abc import Iterator, Sequence

import torch

from bench.models.compared_models import Comparison
from bench.models.model_figures import CellFigures, ModelFigures, ModelKind
from bench.simulate.families import FamilyJob, predict_families
from bench.simulate.predictor import Predictor
from distill.base.errors import UserError
from distill.base.progress import Progress
from distill.device.visible_devices import hide_devices
from distill.spec.candidate import Candidate, ModelSpec
from distill.step.models import build, parameter_count

FEW_CONVOLUTIONS = 2
"""A vision transformer has one convolution, which cuts the image into patches."""


def predict_models(
    plan: Comparison, models: Sequence[tuple[Candidate, ...]]
) -> Iterator[ModelFigures]:
    """The figures of those models, each as soon as all its cells are predicted.

    Raises `UserError` for a model that can't be built, before anything is predicted.
    """
    hide_devices()
    described = [describe(cells[0].student) for cells in models]
    jobs = [_job(plan, cell) for cells in models for cell in cells]
    # the last is begun first: those that look for the largest batch take longest
    jobs.sort(key=lambda job: job.limit_bytes)
    done: dict[Candidate, CellFigures] = {}
    with Progress("predicting", len(jobs), "configurations") as progress:
        waiting = list(zip(models, described, strict=True))
        for found in predict_families(jobs, predict_cell):
            done |= {cell.candidate: cell for cell in found}
            progress.advance()
            for cells, (kind, parameters) in list(waiting):
                if all(cell in done for cell in cells):
                    waiting.remove((cells, (kind, parameters)))
                    figures = tuple(done[cell] for cell in cells)
                    yield ModelFigures(kind=kind, parameters=parameters, cells=figures)


def describe(model: ModelSpec) -> tuple[ModelKind, int]:
    """The kind of a model and the numbers that it learns; it is built without them."""
    with torch.device("meta"):
        built = build(model)
    parts = list(built.modules())
    attends = any("Attention" in type(part).__name__ for part in parts)
    convolves = (
        sum(isinstance(part, torch.nn.Conv2d) and max(part.kernel_size) > 1 for part in parts)
        >= FEW_CONVOLUTIONS
    )
    kinds: dict[tuple[bool, bool], ModelKind] = {
        (True, False): "ViT",
        (False, True): "CNN",
        (True, True): "CNN and attention",
    }
    return kinds.get((attends, convolves), "other"), parameter_count(built)


def predict_cell(job: FamilyJob) -> list[CellFigures]:
    """The figures of a job's one cell; with a limit also the largest batch within it."""
    (cell,) = job.cells
    predictor = Predictor(job.target, job.allocator)
    try:
        prediction = predictor.predict(cell)
        largest = predictor.largest_batch(cell, job.limit_bytes) if job.limit_bytes else None
    except UserError as error:
        return [CellFigures(candidate=cell, refused=str(error))]
    return [
        CellFigures(
            candidate=cell,
            reserved_bytes=prediction.reserved,
            needed_bytes=prediction.safe_bytes,
            bound_bytes=prediction.workspace_bound,
            images_per_second=prediction.expected_images_per_second,
            largest_batch=largest,
        )
    ]


def _job(plan: Comparison, cell: Candidate) -> FamilyJob:
    return FamilyJob(
        cells=(cell,),
        effective_batch=cell.effective_batch,
        target=plan.target,
        allocator=plan.allocator,
        limit_bytes=plan.limit_bytes if plan.is_first(cell) else 0,
    )
