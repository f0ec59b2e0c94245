"""Any number for any numeric option of any command: an answer or one sentence, within seconds.

The options are found by walking the commands, so that a new one is asked about by itself. What is
refused is refused by the real command; where a number is possible, the real work begins, and ends
where it would take long: a grid before its first prediction, a run after its first update.
"""

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import click
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cli import main as bench
from distill.base.console import CountOr, Number
from distill.base.signals import StopRequest
from distill.cli.main import main as distill
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from tests.conftest import RECIPE, ROOT

Words = tuple[str, ...]

ALONE = RECIPE[: RECIPE.index('[[stage]]\nname = "assistant"')].replace("depth = 2", "depth = 1")
BASELINE = str(ROOT / "results/baseline/memory.json")

BESIDE: dict[Words, Words] = {
    ("bench", "predict"): ("--stage", "teacher", "--batch-size", "2", "--recipe", "alone.toml"),
    ("bench", "probe"): ("--vram", "6", "--recipe", "alone.toml", "--device", "predict"),
    ("bench", "compare"): (BASELINE, BASELINE),
    ("bench", "evidence"): ("--dry-run", "--out", "evidence"),
    ("distill", "run"): (
        *("--recipe", "alone.toml", "--device", "cpu", "--fresh", "--epochs", "1"),
    ),
}
"""What a command needs beside the option that is asked about."""

LONG_WORK = (
    "bench.probe.probe.predict_grid",
    "bench.models.model_answer.compared",
    "bench.evidence.evidence.run_evidence",
)
"""What is called once nothing is left to refuse, and would take minutes."""

MOST_TRAINED_PIXELS = 64
"""A first update at more of them may take all memory of the machine."""

NOTHING_FITS = 4
DONE = {0, 2, NOTHING_FITS, 128 + signal.SIGTERM}
"""An answer, a refusal, nothing that fits, a run that was stopped: each said in a sentence."""

MOST_SECONDS = timedelta(seconds=60)
"""For what takes one or two, on a machine that does other work too."""


def numeric_options() -> Iterator[tuple[Words, click.Option]]:
    """Every option of every command that takes a number."""
    for name, group in (("bench", bench), ("distill", distill)):
        yield from _below((name,), group)


def _below(path: Words, command: click.Command) -> Iterator[tuple[Words, click.Option]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _below((*path, name), found)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and _is_numeric(parameter.type):
            yield path, parameter


def _is_numeric(kind: click.ParamType) -> bool:
    return isinstance(
        kind, click.types.IntParamType | click.types.FloatParamType | Number | CountOr
    )


def bounds(kind: click.ParamType) -> tuple[float, float]:
    """The least and the greatest number that the option's type lets through."""
    match kind:
        case click.IntRange(min=low, max=high):
            return -math.inf if low is None else low, math.inf if high is None else high
        case Number():
            return kind.at_least if kind.above is None else kind.above, kind.at_most
        case CountOr():
            return kind.at_least, kind.at_most
    return -math.inf, math.inf


OPTIONS = list(numeric_options())
IDS = [" ".join((*path, option.opts[0])) for path, option in OPTIONS]
every_option = pytest.mark.parametrize(("path", "option"), OPTIONS, ids=IDS)


def written(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)


def numbers_for(option: click.Option) -> st.SearchStrategy[str]:
    """Texts of numbers: around the option's own bounds, huge, tiny, and what is none."""
    edges = [edge for edge in bounds(option.type) if math.isfinite(edge)]
    near = [written(edge + step) for edge in edges for step in (-1, -0.5, 0, 0.5, 1)]
    odd = ["nan", "-inf", "1e308", "-0", "5e-324", "9" * 5000, "١", "1_0", "0x10", "", " 7 "]
    return st.one_of(
        st.sampled_from(near + odd),
        st.integers().map(str),
        st.integers(-(10**40), 10**40).map(str),
        st.floats().map(repr),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, and this process as it was before when all is done."""
    folder = tmp_path_factory.mktemp("numbers")
    (folder / "alone.toml").write_text(ALONE)
    environment, threads = dict(os.environ), torch.get_num_threads()

    def stop_before_long_work(*_: object, **__: object) -> NoReturn:
        raise SystemExit(0)

    @contextmanager
    def already_asked_to_stop(*_: object) -> Iterator[StopRequest]:
        yield StopRequest(signal.SIGTERM)

    def run_of_small_images(request: RunRequest, stop: StopRequest) -> None:
        if request.recipe.image_size <= MOST_TRAINED_PIXELS:
            run_chain(request, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("distill.cli.start_run.run_chain", run_of_small_images)
        for function in LONG_WORK:
            patch.setattr(function, stop_before_long_work)
        patch.setattr("distill.cli.start_run.stop_on_signals", already_asked_to_stop)
        yield folder
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def run(path: Words, option: click.Option, text: str) -> Result:
    """The command with the option, as last said."""
    group = {"bench": bench, "distill": distill}[path[0]]
    return CliRunner().invoke(group, [*path[1:], *BESIDE.get(path, ()), option.opts[0], text])


def check(result: Result) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    assert result.exit_code in DONE, result.output
    if result.exit_code == NOTHING_FITS and "Error: " not in result.output:
        assert result.output.splitlines()[-1].startswith("does not fit: ")
    elif result.exit_code:
        lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1 and len(lines[0]) < 6000 and lines[0].endswith("."), result.output


def test_there_are_numeric_options_in_both_commands() -> None:
    assert {path[0] for path, _ in OPTIONS} == {"bench", "distill"}
    assert len(OPTIONS) >= 20


@every_option
def test_every_numeric_option_has_two_bounds(path: Words, option: click.Option) -> None:
    assert all(math.isfinite(bound) for bound in bounds(option.type)), option.opts


@pytest.mark.slow
@every_option
def test_its_bounds_are_taken_and_what_lies_beyond_is_not(
    place: Path, path: Words, option: click.Option
) -> None:
    low, high = bounds(option.type)
    check(run(path, option, written(high)))
    for beyond in (low - 1, high + 1, high * 10 + 1):
        result = run(path, option, written(beyond))
        check(result)
        assert result.exit_code == 2 and option.opts[0] in result.output, result.output


@pytest.mark.slow
@every_option
@settings(
    max_examples=int(os.environ.get("NUMBERS", "12")),
    deadline=MOST_SECONDS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_number_is_an_answer_or_one_sentence(
    place: Path, path: Words, option: click.Option, data: st.DataObject
) -> None:
    check(run(path, option, data.draw(numbers_for(option))))
