"""The part of a report that compares CNNs with ViTs, from figures that `bench models` has kept."""

from contextlib import suppress

from bench.card.budget import assumed_budget
from bench.models.command import DEFAULT_MODELS
from bench.models.compared_models import Comparison, comparison
from bench.models.figures_kept import known_models
from bench.models.model_documents import ModelsAnswer
from bench.models.model_page import notes, tables_of
from bench.models.model_picture import draw_models
from bench.models.model_scores import scores_in
from bench.report.from_profile import NO_PROFILE, GivenProfile
from bench.report.parts import ReportPart, ReportTable, drawn
from distill.base.errors import UserError
from distill.report.found_run import FoundRun
from distill.spec.pins import default_allocator
from distill.spec.recipe import Recipe, load_recipe

TITLE = "CNN against ViT"
IMAGES = 32
"""What `bench models` compares at by itself."""


def models_part(
    recipe: Recipe | None, given: GivenProfile | None, run: FoundRun | None
) -> ReportPart:
    """The comparison for the profile's card, where it is kept: to predict it takes a minute."""
    if given is None or recipe is None:
        return ReportPart(title=TITLE, missing=NO_PROFILE)
    plan = models_plan(recipe, given)
    figures = [one for one in known_models(plan) if one is not None]
    if len(figures) < len(plan.models):
        return ReportPart(title=TITLE, missing=f"{_command(recipe, given)} predicts it in a minute "
                          "or two; a report made after it shows it.")  # fmt: skip
    found = ModelsAnswer(
        plan=plan,
        models=figures,
        scores=[] if run is None else scores_in(plan, run),
        recordings=[],
        timed={},
        timed_on=None,
    )
    source = f"bench models; predicted by this version for {plan.target.title}"
    return ReportPart(
        title=TITLE,
        sentences=notes(found),
        tables=[
            ReportTable(title=title, rows=rows, source=source)
            for title, rows in tables_of(found).items()
        ],
        pictures=drawn(
            "Memory against speed of CNNs and ViTs, from nothing to every block run again",
            source,
            lambda path: draw_models(path, plan, figures),
        ),
    )


def models_plan(recipe: Recipe, given: GivenProfile) -> Comparison:
    """The comparison as `_command` makes it."""
    profile = given.profile
    return comparison(
        recipe,
        DEFAULT_MODELS,
        target=profile.target,
        allocator=profile.allocator,
        limit_bytes=assumed_budget(profile.budget.nominal_gib, profile.target).limit_bytes,
        precision="fp16",
        micro_batch=IMAGES,
    )


def _command(recipe: Recipe, given: GivenProfile) -> str:
    """The command that predicts the comparison and keeps it."""
    name = "FILE"
    with suppress(UserError):
        name = recipe.name if load_recipe(recipe.name) == recipe else name
    profile = given.profile
    allocator = (
        "" if profile.allocator == default_allocator() else f" --allocator {profile.allocator}"
    )
    return (
        f"bench models --recipe {name} --target {given.path} "
        f"--vram {profile.budget.nominal_gib:g}{allocator}"
    )
