"""What the commands take for a number, and how they name one another."""

import math
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bench.cli import main as bench
from distill.base.console import Number, as_typed, say
from distill.cli.main import main as distill


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--json", "--markdown"),
        ("models", "--json", "--csv"),
        ("doctor", "--json", "--brief"),
        ("evidence", "--out", "x", "--dry-run", "--tables"),
    ],
)
def test_of_two_forms_none_wins_in_silence(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(bench, words)
    assert result.exit_code == 2 and not result.stdout
    assert f"Give one of {words[-2]} and {words[-1]}, not both." in result.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("predict", "--stage=student", "--batch-size=1", "--recipe=x", "--snapshot=x"), "snap"),
        (("models", "--recipe=x", "--plot=./x"), "plot"),
        (("diff", "x", "y", "--plot=x"), "plot"),
        (("report", "--profile=x.html", "--out=x.html"), "out"),
    ],
)
def test_no_command_writes_over_what_it_reads(
    words: tuple[str, ...], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [Path("x"), Path("x.html")]
    for file in files:
        file.write_text("kept")
    result = CliRunner().invoke(bench, words)
    assert result.exit_code == 2 and f"Name another file for --{option}" in result.output
    assert [file.read_text() for file in files] == ["kept", "kept"]


def given_to(kind: Number, text: str) -> float | str:
    """The number that a command with such an option gets, or what is said instead."""

    @click.command()
    @click.option("--size", type=kind)
    def command(size: float) -> None:
        click.echo(repr(size))

    result = CliRunner().invoke(command, [f"--size={text}"])
    if result.exit_code:
        assert result.exit_code == 2
        return result.output.strip().splitlines()[-1]
    return float(result.output)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_within_the_bounds_is_taken_and_no_other(number: float) -> None:
    taken = given_to(Number(above=0, at_most=1024), repr(number))
    assert (taken == number) if 0 < number <= 1024 else isinstance(taken, str)
    taken = given_to(Number(at_least=0), repr(number))
    assert (taken == number) if number >= 0 else isinstance(taken, str)


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (Number(above=0, at_most=1024, unit=" GiB"), "0",
         "0 must be above 0 and at most 1024 GiB."),
        (Number(at_least=0, at_most=1), "1.5", "1.5 must be at least 0 and at most 1."),
        (Number(at_least=0), "-1", "-1 must be at least 0."),
        (Number(above=0), "abc", "'abc' is not a number."),
        (Number(above=0), "nan", "nan is not a finite number."),
        (Number(at_least=0), "inf", "inf is not a finite number."),
        (Number(at_most=2), repr(-math.inf), "-inf is not a finite number."),
    ],
)  # fmt: skip
def test_the_sentence_names_the_value_and_the_bounds(
    kind: Number, text: str, sentence: str
) -> None:
    told = given_to(kind, text)
    assert isinstance(told, str) and told.endswith(sentence)


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [(bench, "prob", "probe"), (bench, "predct", "predict"), (distill, "ru", "run")],
)
def test_a_misspelt_command_is_told_which_was_meant(
    command: click.Group, typed: str, meant: str
) -> None:
    result = CliRunner().invoke(command, [typed])
    assert result.exit_code == 2
    assert f"No such command {typed!r}. Did you mean {meant!r}?" in result.output


def test_a_command_is_named_as_this_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ".venv" / "bin"
    place.mkdir(parents=True)
    script = place / "distill"
    script.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(place / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(place))
    assert as_typed("distill") == "distill"
    monkeypatch.setenv("PATH", "")
    assert as_typed("distill") == ".venv/bin/distill"
    script.unlink()
    assert as_typed("distill") == "distill"


def test_a_name_that_a_terminal_would_obey_is_said_on_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("classes (two\nlines, \x1b[2J)")
    assert capsys.readouterr().err == "classes (two\\nlines, \\x1b[2J)\n"
