"""What a probe is asked to look at: a recipe, perhaps with other data, models and pixels.

The run that is to obey the profile has to be asked for the same; `run_command` says how.
"""

import re
import shlex
import sys
from pathlib import Path

from bench.probe.command import ProbeOptions
from distill.base.console import as_typed
from distill.data.photo_sizes import shrinking_told
from distill.spec.own_teacher import asked_teacher
from distill.spec.own_work import OwnWork, asked_models, named_for_data
from distill.spec.recipe import Recipe, load_recipe, recipe_names
from distill.spec.recipe_changes import with_own_teacher


def asked_recipe(options: ProbeOptions) -> Recipe:
    """The recipe as the command line changes it.

    Raises `UserError` for what is not known, and for photos that would become very small.
    """
    filed, work = load_recipe(options.recipe_name), _work(options)
    teacher = asked_teacher(options.teacher_weights, options.teacher_model, "all")
    recipe = named_for_data(with_own_teacher(filed, teacher), work)
    shrinking = shrinking_told(recipe, chosen=work.chooses_pixels(filed))
    if shrinking is not None:
        print(shrinking, file=sys.stderr)
    return recipe


def name_ending(options: ProbeOptions) -> str:
    """What the profile's name says of other models and pixels; nothing without."""
    models = asked_models(options.model)
    ending = "".join(f"-{stage}-{re.sub('[^a-z0-9_.-]', '-', models[stage])}" for stage in models)
    return ending if options.image_size is None else f"{ending}-{options.image_size}px"


def run_command(options: ProbeOptions, recipe: Recipe, profile: Path) -> str:
    """The command of the run that the profile is for."""
    words = [as_typed("distill"), "run", "--profile", str(profile)]
    if recipe.name.partition(":")[0] not in recipe_names() or _is_file(options.recipe_name):
        words += ["--recipe", options.recipe_name]
        words += [] if options.dataset is None else ["--dataset", options.dataset]
    for text in options.model:
        words += ["--model", text]
    if options.image_size is not None:
        words += ["--image-size", str(options.image_size)]
    if options.teacher_weights is not None:
        words += ["--teacher-weights", options.teacher_weights]
    if options.teacher_model is not None:
        words += ["--teacher-model", options.teacher_model]
    return shlex.join(words)


def _work(options: ProbeOptions) -> OwnWork:
    return OwnWork(
        dataset=options.dataset, models=asked_models(options.model), image_size=options.image_size
    )


def _is_file(name: str) -> bool:
    return name.endswith((".toml", ".json"))
