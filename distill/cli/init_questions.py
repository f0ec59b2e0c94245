"""The questions of `distill init`, each with an answer to take as it is.

An answer that can't be is told, and the question comes again. Asks; writes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from distill.base.errors import UserError
from distill.spec.bounds import MOST_EPOCHS, MOST_PIXELS
from distill.spec.candidate import StageName
from distill.spec.catalog import dataset_info
from distill.spec.new_recipe import LEFT_OUT, as_dataset
from distill.spec.recipe import Recipe, load_recipe, recipe_names
from distill.step.models import check_model_name

T = TypeVar("T")


@dataclass(frozen=True)
class Questions:
    """What is asked of a person; without one every answer is the default, or `None`."""

    asks: bool

    def dataset(self) -> str:
        """The images. Raises `UserError` where nobody can be asked."""
        if not self.asks:
            raise UserError(
                "Say which images: --dataset DIR with one folder of them a class, csv:FILE, or a "
                "published set such as pathmnist_64."
            )
        return self._ask("Your images (a folder, csv:FILE, or a published set)", checked_dataset)

    def start(self, default: str) -> Recipe:
        """The recipe to start from."""
        if not self.asks:
            return load_recipe(default)
        for name in recipe_names():
            click.echo(f"  {name:16} {load_recipe(name).about}")
        return self._ask("Models and values to start from", load_recipe, default)

    def models(self, start: Recipe) -> dict[StageName, str]:
        """Other models by stage, where others are wanted."""
        if not self.asks:
            return {}
        found: dict[StageName, str] = {}
        for stage in start.stage:
            known = start.model_of(stage.name).title
            answer = self._ask(
                f"{stage.name.capitalize()}, by timm name, or {LEFT_OUT}", _model_or(known), known
            )
            if answer != known:
                found[stage.name] = answer
        return found

    def image_size(self, default: int) -> int:
        """The pixels to which images are brought."""
        return default if not self.asks else self._ask("Pixels", _count(MOST_PIXELS), default)

    def epochs(self, start: Recipe) -> int | None:
        """The epochs of every stage; `None` for those of the recipe."""
        if not self.asks:
            return None
        mine = [str(start.training_of(stage.name).epochs) for stage in start.stage]
        default = mine[0] if len(set(mine)) == 1 else ", ".join(mine)
        answer = self._ask(
            "Epochs", lambda text: None if text == default else _count(MOST_EPOCHS)(text), default
        )
        return answer

    def _ask(self, words: str, meaning: Callable[[str], T], default: Any = None) -> T:
        def value(text: str) -> T:
            try:
                return meaning(str(text).strip())
            except UserError as error:
                raise click.UsageError(str(error)) from error

        found: T = click.prompt(words, default=default, value_proc=value)
        return found


def checked_dataset(name: str) -> str:
    """The name of a data set that is there, a folder's with its whole path."""
    dataset = as_dataset(name)
    dataset_info(dataset, image_size=1)
    return dataset


def _model_or(known: str) -> Callable[[str], str]:
    def meaning(text: str) -> str:
        if text not in (known, LEFT_OUT):
            check_model_name(text)
        return text

    return meaning


def _count(most: int) -> Callable[[str], int]:
    def meaning(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise UserError(f"{text!r} is no number between 1 and {most:,}.")
        return int(text)

    return meaning
