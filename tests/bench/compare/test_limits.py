"""Limits of a user hold for the cells that they name, and decide the exit code alone."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench import cli
from bench.compare.baseline import Baseline, BaselineCell, write_baseline
from bench.compare.limits import MOST_LIMITS, check_limits, read_limit
from distill.base.errors import UserError
from distill.base.units import GIB, MIB


def cell(name: str, reserved: int) -> BaselineCell:
    sizes = {"requested_bytes": reserved, "allocated_bytes": reserved, "reserved_bytes": reserved}
    return BaselineCell(name=name, breakdown={"weights": reserved}, **sizes)


CELLS = (
    cell("teacher/fp16/8x16", 2 * GIB),
    cell("teacher/fp16+ckpt/8x16", GIB),
    cell("student/fp16/8x16", 400 * MIB),
)


@pytest.mark.parametrize(
    ("text", "cells", "limit_bytes"),
    [
        ("5GiB", "*", 5 * GIB),
        (" 5 GiB ", "*", 5 * GIB),
        ("teacher=4.5 GiB", "teacher", 9 * GIB // 2),
        ("*/fp16/8x* = 512 MiB", "*/fp16/8x*", 512 * MIB),
    ],
)
def test_a_limit_is_a_size_with_or_without_cells(text: str, cells: str, limit_bytes: int) -> None:
    limit = read_limit(text)
    assert (limit.cells, limit.limit_bytes) == (cells, limit_bytes)


@pytest.mark.parametrize("text", ["", "5", "=5GiB", "teacher=", "teacher=much", "0 GiB", "-1 GiB"])
def test_what_is_no_limit_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match="Give a "):
        read_limit(text)


@pytest.mark.parametrize(
    ("text", "largest", "cell_count", "over_count"),
    [
        ("1GiB", "teacher/fp16/8x16", 3, 1),
        ("teacher=1GiB", "teacher/fp16/8x16", 2, 1),
        ("teacher/fp16=2GiB", "teacher/fp16/8x16", 1, 0),
        ("*+ckpt/*=1023MiB", "teacher/fp16+ckpt/8x16", 1, 1),
        ("student/fp16/8x16=400MiB", "student/fp16/8x16", 1, 0),
    ],
)
def test_a_limit_holds_for_all_a_stage_a_configuration_a_pattern_or_a_cell(
    text: str, largest: str, cell_count: int, over_count: int
) -> None:
    (check,) = check_limits([read_limit(text)], CELLS)
    assert check.largest_cell == largest
    assert (check.cell_count, check.over_count) == (cell_count, over_count)


@pytest.fixture
def compare(tmp_path: Path):
    """A function: compares cells that grew, and one that is the same, with more arguments."""
    before = Baseline(
        schema=1, torch=version("torch"), timm=version("timm"), target="rtx4050",
        recipe="cifar10", allocator="expandable", cells=CELLS,
    )  # fmt: skip
    grown = replace(before, cells=(*CELLS[:2], cell(CELLS[2].name, 401 * MIB)))
    for name, side in (("then", before), ("now", grown)):
        write_baseline(tmp_path / name, side)

    def run(*more: str) -> Result:
        files = [str(tmp_path / "then"), str(tmp_path / "now")]
        return CliRunner().invoke(cli.main, ["compare", *files, *more])

    return run


def test_limits_that_are_kept_pass_though_the_baseline_would_not(compare) -> None:
    assert compare().exit_code == 1
    result = compare("--limit", "student=410 MiB")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "within limits: student/fp16/8x16 takes 401.0 MiB of a limit of 410.0 MiB, 9.0 MiB are left"
    )
    assert "Against the baseline: worse: student/fp16/8x16 by +1.00 MiB" in result.stdout
    assert "The limits decide the exit code; the baseline's would be 1." in result.stdout


def test_the_verdict_on_limits_comes_first_in_every_form(compare, tmp_path: Path) -> None:
    limits = ["--limit", "student=400MiB", "--limit", "teacher=5GiB"]
    said = "over the limit: student/fp16/8x16 takes 401.0 MiB of a limit of 400.0 MiB, 1.0 MiB too"
    page = tmp_path / "page.html"
    result = compare(*limits, "--html", str(page))
    assert result.exit_code == 4 and result.stdout.startswith(said)
    assert "over the limit" in page.read_text() and said.partition(": ")[2] in page.read_text()
    result = compare(*limits, "--markdown")
    assert result.exit_code == 4 and result.stdout.startswith(f"**Memory** · {said}")
    assert "| teacher" in result.stdout and "0 of 2" in result.stdout
    document = json.loads(compare(*limits, "--json").stdout)
    assert document["exit_code"] == 4
    assert [one["over_count"] for one in document["limits"]] == [1, 0]


def test_a_limit_for_nothing_is_refused_with_the_nearest_name(compare, tmp_path: Path) -> None:
    result = compare("--limit", "studnt=5GiB")
    assert result.exit_code == 2 and not result.stdout
    assert "No cell is called 'studnt'" in result.stderr
    assert "Did you mean student" in result.stderr
    result = compare(*["--limit", "5GiB"] * (MOST_LIMITS + 1))
    assert result.exit_code == 2 and "41 limits are more than 40." in result.stderr


def test_the_baseline_is_written_anew_and_the_limit_still_told(compare, tmp_path: Path) -> None:
    result = compare("--limit", "student=400MiB", "--update")
    assert result.exit_code == 4 and "over the limit" in result.stdout
    assert (tmp_path / "then").read_text() == (tmp_path / "now").read_text()


def test_metrics_are_what_the_two_programs_read(compare, tmp_path: Path) -> None:
    metrics, bencher = tmp_path / "metrics.json", tmp_path / "bencher.json"
    compare("--metrics", str(metrics), "--bencher", str(bencher))
    rows = json.loads(metrics.read_text())
    assert [set(row) for row in rows] == [{"name", "unit", "value", "extra"}] * 3
    assert rows[0]["name"] == "teacher/fp16/8x16 reserved" and rows[0]["unit"] == "MiB"
    assert [row["value"] for row in rows] == [2048, 1024, 401]
    measures = json.loads(bencher.read_text())["student/fp16/8x16"]
    assert measures["reserved-bytes"] == {"value": 401 * MIB}
    assert set(measures) == {"reserved-bytes", "allocated-bytes", "requested-bytes"}


def test_a_place_for_metrics_that_cannot_be_written_is_refused_first(compare, tmp_path) -> None:
    result = compare("--metrics", str(tmp_path))
    assert result.exit_code == 2 and not result.stdout


@pytest.mark.parametrize(
    "more",
    [("--metrics", "then"), ("--bencher", "now"), ("--metrics", "one", "--bencher", "./one")],
)
def test_no_file_is_written_over_an_input_or_another(
    compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "then").read_bytes(), (tmp_path / "now").read_bytes()
    result = compare(*more)
    assert result.exit_code == 2 and "is named twice" in result.output and not result.stdout
    assert ((tmp_path / "then").read_bytes(), (tmp_path / "now").read_bytes()) == before
    assert not (tmp_path / "one").exists()


def test_a_page_of_another_name_is_refused_with_its_ending(compare, tmp_path: Path) -> None:
    result = compare("--html", str(tmp_path / "page.txt"))
    assert result.exit_code == 2 and "must end in .html.\n" in result.output
