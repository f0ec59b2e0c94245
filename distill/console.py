"""The edge between the commands and a person: failures as one sentence with an exit code.

Shared by both commands. Parses nothing and prints no result.
"""

import math
import signal
import sys
from typing import Any, NoReturn

import click

from distill.errors import DistillError


class Commands(click.Group):
    """A group that lists its commands as they were added and knows this project's failures."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DistillError as error:
            fail(str(error), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            fail("Stopped by Ctrl-C. What was finished is kept.", 128 + signal.SIGINT)


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


def fail(sentence: str, exit_code: int) -> NoReturn:
    """Say what is wrong and leave."""
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(exit_code)


class Above(click.ParamType[float]):
    """A finite number above a bound, up to a maximum."""

    name = "number"

    def __init__(self, low: float, high: float = math.inf, unit: str = "") -> None:
        self.low, self.high, self.unit = low, high, unit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not (math.isfinite(number) and self.low < number <= self.high):
            upto = "" if math.isinf(self.high) else f" and at most {self.high:g}"
            self.fail(f"{value} must be above {self.low:g}{upto}{self.unit}.", param, ctx)
        return number
