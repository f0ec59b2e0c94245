"""The families that a probe's journal lacks, predicted in processes beside this one.

Loads torch, which a probe whose journal has all of them does without.
"""

from collections.abc import Iterator, Sequence

from bench.probe.probe_plan import ProbePlan
from bench.simulate import families
from bench.simulate.prediction import Prediction, Unavailable
from distill.run.buildable import check_buildable
from distill.spec.candidate import Candidate


def predict_missing(
    plan: ProbePlan, missing: Sequence[Sequence[Candidate]]
) -> Iterator[Sequence[Prediction | Unavailable]]:
    """The answers for each of the families' cells, as families are done.

    Raises `UserError` for a model that can't be built, before any is predicted.
    """
    check_buildable(plan.recipe)
    jobs = [
        families.FamilyJob(
            cells=tuple(wanted),
            effective_batch=plan.effective_batches[wanted[0].stage],
            target=plan.target,
            allocator=plan.allocator,
            limit_bytes=plan.budget.limit_bytes,
        )
        for wanted in missing
    ]
    return families.predict_families(jobs, families.predict_family)
