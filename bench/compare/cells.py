"""The cells that are held against a baseline: which they are, and predicting them. Loads torch."""

from importlib.metadata import version

from bench.compare.baseline import SCHEMA, Baseline, BaselineCell, cell_name
from bench.predict.at_peak import ops_at_peak
from bench.probe.grid import effective_batches, families
from bench.simulate.families import FamilyJob, predict_families
from bench.simulate.predictor import Predictor
from distill.base.progress import Progress
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Target
from distill.spec.recipe import Recipe

BATCHES = (8, 32)
ALLOCATOR: Allocator = "expandable"


def predict_baseline(recipe: Recipe, target: Target) -> Baseline:
    """Every stage, precision and checkpointing at two batch sizes, predicted."""
    effective = effective_batches(recipe)
    jobs = [
        FamilyJob(
            cells=tuple(family.with_batch(batch, effective[family.stage]) for batch in BATCHES),
            effective_batch=effective[family.stage],
            target=target,
            allocator=ALLOCATOR,
            limit_bytes=0,
        )
        for family in families(recipe, target)
    ]
    found: dict[str, BaselineCell] = {}
    with Progress("predicting", len(jobs), "families") as progress:
        for cells in predict_families(jobs, family_cells):
            found |= {cell.name: cell for cell in cells}
            progress.advance()
    return Baseline(
        schema=SCHEMA,
        torch=version("torch"),
        timm=version("timm"),
        target=target.name,
        recipe=recipe.name,
        allocator=ALLOCATOR,
        cells=tuple(found[cell_name(cell)] for job in jobs for cell in job.cells),
    )


def family_cells(job: FamilyJob) -> list[BaselineCell]:
    """The cells of a family, whose traces they share."""
    predictor = Predictor(job.target, job.allocator)
    predictor.fit_family(job.cells[-1])
    return [predicted_cell(predictor, cell) for cell in job.cells]


def predicted_cell(predictor: Predictor, candidate: Candidate) -> BaselineCell:
    """The part of a prediction that is compared, and the ops that explain it."""
    prediction = predictor.predict(candidate)
    program, run = predictor.run(candidate)
    ops: dict[str, dict[str, int]] = {}
    for one in ops_at_peak(program, run.peak):
        ops.setdefault(one.owner, {})[one.op] = one.size_bytes
    return BaselineCell(
        name=cell_name(candidate),
        requested_bytes=prediction.requested,
        allocated_bytes=prediction.allocated,
        reserved_bytes=prediction.reserved_max,
        breakdown=prediction.breakdown,
        ops=ops,
    )
