"""Answering `bench models`: what is kept is taken, what is not predicted or timed, then shown."""

import json

from bench.card.budget import assumed_budget, limit_on
from bench.card.targets import target_asked
from bench.models.command import ModelsOptions
from bench.models.compared_models import Comparison, comparison
from bench.models.figures_kept import compared
from bench.models.model_documents import ModelsAnswer, model_records, models_document
from bench.models.model_page import page_of
from bench.models.model_scores import recorded_models, scores_of
from bench.models.time_models import card_asked, time_models
from distill.base.errors import UserError
from distill.report.tables import as_csv
from distill.spec.pins import default_allocator
from distill.spec.recipe import load_recipe


def answer_text(options: ModelsOptions) -> str:
    """The comparison in the form that is asked for; draws the picture on the way."""
    draw = None
    if options.plot is not None:
        from bench.models.model_picture import picture_at  # matplotlib, which few questions need

        draw = picture_at(options.plot)
    found = models_answer(options)
    if draw is not None:
        draw(found.plan, found.models)
    if options.as_json:
        return json.dumps(models_document(found), indent=2)
    if options.as_csv:
        return as_csv(model_records(found)).rstrip()
    return page_of(found, markdown=options.markdown)


def models_answer(options: ModelsOptions) -> ModelsAnswer:
    """All that is known of the models. What can be refused is refused before the work."""
    if options.device == "cuda" and options.target_name not in (None, "auto"):
        raise UserError("--device cuda times on the card that is here: leave --target out.")
    card = card_asked(options.device)
    plan = _plan(options)
    scores = scores_of(plan, options.runs)
    recordings = recorded_models(plan, options.evidence)
    return ModelsAnswer(
        plan=plan,
        models=compared(plan),
        scores=scores,
        recordings=recordings,
        timed={} if card is None else time_models(plan, card),
        timed_on=None if card is None else card.name,
    )


def _plan(options: ModelsOptions) -> Comparison:
    target = target_asked("auto" if options.device == "cuda" else options.target_name, options.vram)
    limit_bytes = limit_on(target)
    if options.vram is not None:
        limit_bytes = assumed_budget(options.vram, target).limit_bytes
    return comparison(
        load_recipe(options.recipe_name),
        options.models,
        target=target,
        allocator=options.allocator or default_allocator(),
        limit_bytes=limit_bytes,
        precision=options.precision,
        micro_batch=options.batch_size,
    )
