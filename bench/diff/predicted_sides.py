"""Both sides of a difference predicted by today's code: the ops of their bytes, their timelines.

Loads torch and hides the GPU: nothing here is measured.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from bench.card.budget import limit_on
from bench.card.targets import target_named
from bench.diff.cell_labels import labelled
from bench.diff.sides import DiffItem, DiffSide, side_of_prediction
from bench.diff.two_timelines import PredictedAgain, two_timelines
from bench.predict.at_peak import ops_at_peak
from bench.predict.document import fit_document
from bench.simulate.predictor import Predictor
from distill.base.errors import UserError
from distill.report.figure import check_picture, save
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Target
from distill.spec.recipe import Recipe, load_recipe

ALLOCATORS: tuple[Allocator, ...] = get_args(Allocator)


class Predictors:
    """One predictor for each card and allocator: sides of one kind share their traces."""

    def __init__(self) -> None:
        self._there: dict[tuple[Target, Allocator], Predictor] = {}

    def of(self, target: Target, allocator: Allocator) -> Predictor:
        """The predictor for that card and allocator."""
        return self._there.setdefault((target, allocator), Predictor(target, allocator))

    def side_of(self, label: str, recipe: Recipe, target: Target, allocator: Allocator) -> DiffSide:
        """A configuration by its name, predicted. Raises `UserError` for one that can't be."""
        candidate = labelled(label, recipe)
        found = self.of(target, allocator).predict(candidate)
        document = fit_document(found, limit_on(target))
        side = side_of_prediction(label, "configuration", document)
        more = {"timm": version("timm"), "recipe": recipe.name, "digest": recipe.digest()}
        return replace(side, environment={**side.environment, **more})

    def drawing_to(self, path: Path) -> Callable[[PredictedAgain, PredictedAgain], None]:
        """A function that draws two timelines. Raises `UserError` for a place of no picture."""
        check_picture(path)
        return lambda a, b: save(path, two_timelines(a, b))

    def again(self, item: DiffItem, side: DiffSide) -> PredictedAgain | None:
        """An item's configuration, predicted; `None` where a side does not say which it is."""
        with suppress(UserError):
            candidate = _candidate(item, side)
            predictor = self.of(_target(item, side), _allocator(side))
            prediction = predictor.predict(candidate)
            program, run = predictor.run(candidate, timeline=True)
            return PredictedAgain(
                candidate=candidate,
                reserved_bytes=prediction.reserved,
                reserved_max_bytes=prediction.reserved_max,
                ops=ops_at_peak(program, run.peak),
                program=program,
                run=run,
            )
        return None


def _candidate(item: DiffItem, side: DiffSide) -> Candidate:
    """The item's own, or that of its name in its side's recipe."""
    if item.candidate is not None:
        return item.candidate
    return labelled(item.name, load_recipe(side.environment.get("recipe", "")))


def _target(item: DiffItem, side: DiffSide) -> Target:
    return side.target or target_named(item.card or side.environment.get("card", ""))


def _allocator(side: DiffSide) -> Allocator:
    """The one allocator of a side's numbers. Raises `UserError` where they are of several."""
    said = side.environment.get("allocator", "")
    for known in ALLOCATORS:
        if known == said:
            return known
    raise UserError(f"{side.title} is of several allocators.")
