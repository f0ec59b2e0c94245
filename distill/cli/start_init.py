"""The work of `distill init`: what was answered as a recipe, checked, then written."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from distill.base.console import as_typed
from distill.base.errors import UserError, printable
from distill.base.files import check_folder, check_output, write_text
from distill.cli.init_command import InitOptions
from distill.cli.init_questions import Questions, checked_dataset
from distill.data.photo_sizes import shorter_side_of
from distill.run.buildable import check_buildable
from distill.spec.candidate import StageName
from distill.spec.image_files import count_of
from distill.spec.image_source import image_layout, is_own, safe_name
from distill.spec.new_recipe import (
    LEFT_OUT,
    Wishes,
    new_recipe,
    own_name,
    pixels_for,
    start_for,
)
from distill.spec.own_work import asked_models
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_text import recipe_text
from distill.step.models import check_model_name

SUFFIX = ".toml"

SMALL_STARTS = ("demo", "fashion")
SMALL = "Those of demo are small: --from demo."


def write_own_recipe(options: InitOptions) -> None:
    """Ask for what no option says, write the recipe, and say what comes next.

    Raises `UserError`, with nothing written, for what can't be trained.
    """
    _check_path(options.path, force=options.force)
    ask = options.ask if options.ask is not None else sys.stdin.isatty() and sys.stdout.isatty()
    questions = Questions(ask)
    asked = _asked_models(options.model)
    dataset = questions.dataset() if options.dataset is None else checked_dataset(options.dataset)
    path = options.path or Path(f"{safe_name(dataset)}{SUFFIX}")
    _check_path(path, force=options.force)
    side = shorter_side_of(dataset) if is_own(dataset) else None
    _tell_of(dataset, side)
    default = start_for(dataset, pretrained=options.pretrained)
    if options.start is None and default not in SMALL_STARTS and not torch.cuda.is_available():
        click.echo(f"No GPU is here, and the models of {default} take long without one. {SMALL}")
    start = questions.start(default) if options.start is None else load_recipe(options.start)
    models = asked or questions.models(start)
    pixels = pixels_for(start, dataset, side)
    wishes = Wishes(
        name=own_name(path.stem),
        dataset=dataset,
        image_size=options.image_size or questions.image_size(pixels),
        models=models,
        pretrained=options.pretrained,
        epochs=options.epochs or questions.epochs(start),
    )
    recipe = new_recipe(start, wishes)
    check_buildable(recipe)
    write_text(path, recipe_text(recipe, _opening(start)))
    _say_what_is_next(path, recipe)


def _asked_models(texts: Sequence[str]) -> dict[StageName, str]:
    """The models that options name, which timm knows or which leave their stage out."""
    found = asked_models(texts)
    for name in found.values():
        if name != LEFT_OUT:
            check_model_name(name)
    return found


def _check_path(path: Path | None, *, force: bool) -> None:
    """Refuse a file that is no recipe's by its name, is there, or can't be written."""
    if path is None:
        return
    if path.suffix != SUFFIX:
        cure = f": {path}{SUFFIX}" if path.name and not path.is_dir() else ", as in own.toml"
        raise UserError(f"A recipe's file ends in {SUFFIX}{cure}.")
    if path.exists() and not force:
        raise UserError(f"{path} is there. Name another file, or write over it with --force.")
    if path.exists():
        check_output(path)
    else:
        check_folder(path.parent)


def _tell_of(dataset: str, side: int | None) -> None:
    """Say what images of one's own are, before anything is decided for them."""
    if not is_own(dataset):
        return
    layout = image_layout(dataset)
    names = ", ".join(layout.classes[:6]) + ("…" if len(layout.classes) > 6 else "")
    wide = "none that was tried can be read" if side is None else f"about {side} pixels wide"
    line = (
        f"{dataset}: {len(layout.classes)} classes ({names}), "
        f"{count_of(layout.train_images, 'image')} to train on, {wide}; {layout.decided}"
    )
    click.echo(printable(line))


def _opening(start: Recipe) -> str:
    return (
        f"A recipe of your own, which distill init made of {start.name}. A key behind # is off;\n"
        "its value is one to try. What can't be is refused, all of it at once."
    )


def _say_what_is_next(path: Path, recipe: Recipe) -> None:
    click.echo(f"\nWrote {path}: {recipe.dataset} at {recipe.image_size} px")
    for stage in recipe.stage:
        click.echo(f"  {stage.name:<9}  {recipe.model_of(stage.name).title}")
    file, distill, bench = shlex.quote(str(path)), as_typed("distill"), as_typed("bench")
    click.echo(f"Next: {distill} run --recipe {file}")
    click.echo(f"or, for a card of 6 GB, first: {bench} probe --vram 6 --recipe {file}")
