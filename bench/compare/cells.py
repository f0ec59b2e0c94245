"""The cells that are held against a baseline: which they are, and predicting them."""

from importlib.metadata import version

from bench.compare.baseline import SCHEMA, Baseline, BaselineCell
from bench.probe.grid import effective_batches, families
from bench.simulate.prediction import Prediction
from distill.base.progress import Progress
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Target
from distill.spec.recipe import Recipe

BATCHES = (8, 32)
ALLOCATOR: Allocator = "expandable"


def cell_name(candidate: Candidate) -> str:
    """A name that stays the same as long as the configuration does."""
    images = f"{candidate.micro_batch}x{candidate.accumulation}"
    return f"{candidate.stage}/{candidate.label}/{images}"


def predict_baseline(recipe: Recipe, target: Target) -> Baseline:
    """Every stage, precision and checkpointing at two batch sizes, predicted."""
    # loads torch, which the comparison of two files does without
    from bench.simulate.families import FamilyJob, predict_cells, predict_families

    effective = effective_batches(recipe)
    wanted = families(recipe, target)
    jobs = [
        FamilyJob(
            cells=tuple(family.with_batch(batch, effective[family.stage]) for batch in BATCHES),
            effective_batch=effective[family.stage],
            target=target,
            allocator=ALLOCATOR,
            limit_bytes=0,
        )
        for family in wanted
    ]
    found: dict[str, Prediction] = {}
    with Progress("predicting", len(jobs), "families") as progress:
        for predictions in predict_families(jobs, predict_cells):
            found |= {cell_name(prediction.candidate): prediction for prediction in predictions}
            progress.advance()
    names = [cell_name(cell) for job in jobs for cell in job.cells]
    return Baseline(
        schema=SCHEMA,
        torch=version("torch"),
        timm=version("timm"),
        target=target.name,
        recipe=recipe.name,
        allocator=ALLOCATOR,
        cells=tuple(cell_of(name, found[name]) for name in names),
    )


def cell_of(name: str, prediction: Prediction) -> BaselineCell:
    """The part of a prediction that is compared."""
    return BaselineCell(
        name=name,
        requested_bytes=prediction.requested,
        allocated_bytes=prediction.allocated,
        reserved_bytes=prediction.reserved_max,
        breakdown=prediction.breakdown,
    )
