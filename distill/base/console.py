"""The edge between the commands and a person: failures as one sentence with an exit code.

Shared by both commands. Parses nothing and prints no result.
"""

import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from distill.base.errors import DistillError, UserError, printable
from distill.base.launched import told_to_launcher
from distill.base.lost_output import LostOutput, output_kept
from distill.base.nearest import did_you_mean
from distill.base.signals import signals_answered

T = TypeVar("T")

MOST_OF_A_NAME = 500
"""Letters of a file's name that a sentence shows."""


class LazyGroup(click.Group):
    """A group that loads a command's module when that command is called, and not before.

    `lazy` gives each command's place (`package.module:attribute`) and its line in the group's
    help, in the order in which they are listed (Click's documentation, "Lazily Loading
    Subcommands"). A `DistillError` ends in one sentence and its exit code, and so does a
    signal (`signals`).
    """

    def __init__(
        self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        command: click.Command = loaded(self.lazy[cmd_name][0])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:  # knows no name that is not loaded
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.lazy, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by the lines given here, so that no command's module is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])

    def main(self, *arguments: Any, **attributes: Any) -> Any:
        # Read by OpenMP when torch is loaded, here and in children: threads that spin while they
        # wait for one another are ten times slower on cores that other programs use too.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            with signals_answered(), output_kept():
                return super().main(*arguments, **attributes)
        except LostOutput as error:
            fail(f"Cannot write to standard output ({error}). Make room, or send it elsewhere.", 1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DistillError as error:
            told_to_launcher(str(error))
            fail(str(error), error.exit_code)
        except OSError as error:
            if error.filename is None:
                raise
            name = str(error.filename)
            shown = name if len(name) <= MOST_OF_A_NAME else f"{name[:MOST_OF_A_NAME]}…"
            fail(f"Cannot use {shown} ({error.strerror}).", UserError.exit_code)


def loaded(place: str) -> Any:
    """What stands at `package.module:name`, its module loaded now: help must load nothing heavy."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def taking(options: Callable[..., T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Hand a command's parameters on as one value of the type `options`."""

    def decorate(command: Callable[[T], None]) -> Callable[..., None]:
        @wraps(command)
        def call(**values: Any) -> None:
            command(options(**values))

        return call

    return decorate


class GroupedOption(click.Option):
    """An option that its command's help lists under a title."""

    def __init__(self, *arguments: Any, title: str = "Other", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.title = title


class GroupedCommand(click.Command):
    """A command whose help lists its options by title, in the order of their coming."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "title", "Other"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def as_typed(name: str) -> str:
    """A command of this environment as this shell finds it: by name, else by the path to it."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) is not None or not beside.exists():
        return name
    here = os.path.relpath(beside)
    return here if len(here) < len(str(beside)) else str(beside)


def say(line: str) -> None:
    """One line for the person who watches; standard output is for results."""
    click.echo(printable(line), err=True)


def fail(sentence: str, exit_code: int) -> NoReturn:
    """Say what is wrong and leave."""
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(exit_code)


def at_most_one(given: Mapping[str, object]) -> None:
    """Refuse options of which one would silently win, by their names and what came of each."""
    names = [name for name, value in given.items() if value is not None and value is not False]
    if len(names) > 1:
        *others, last = names
        raise UserError(f"Give one of {', '.join(others)} and {last}, not {_both(names)}.")


def _both(names: Sequence[str]) -> str:
    return "both" if len(names) == 2 else "all of them"


class OneOf(click.Choice[str]):
    """One of some words; of another word it says which of them are near."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = did_you_mean(str(value), self.choices)
            self.fail(f"{error.message}{near}", param, ctx)


class Number(click.ParamType[float]):
    """A finite number within bounds."""

    name = "number"

    def __init__(
        self,
        *,
        above: float | None = None,
        at_least: float = -math.inf,
        at_most: float = math.inf,
        unit: str = "",
    ) -> None:
        self.above, self.at_least, self.at_most, self.unit = above, at_least, at_most, unit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        too_low = number <= self.above if self.above is not None else number < self.at_least
        if too_low or number > self.at_most:
            self.fail(f"{value} must be {self._bounds()}{self.unit}.", param, ctx)
        return number

    def _bounds(self) -> str:
        low = f"at least {self.at_least:g}" if self.above is None else f"above {self.above:g}"
        return low if math.isinf(self.at_most) else f"{low} and at most {self.at_most:g}"


class CountOr(click.ParamType[int | str]):
    """A whole number within bounds, or one word."""

    name = "count"

    def __init__(self, word: str, *, at_least: int = 1, at_most: int) -> None:
        self.word, self.at_least, self.at_most = word, at_least, at_most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == self.word:
            return self.word
        try:
            number = int(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is neither a whole number nor {self.word!r}.", param, ctx)
        if not self.at_least <= number <= self.at_most:
            bounds = f"at least {self.at_least} and at most {self.at_most}"
            self.fail(f"{value} must be {bounds}.", param, ctx)
        return number
