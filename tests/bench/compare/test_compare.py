"""Memory regression: what is said of cells that changed, and of files that are none."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import cli
from bench.compare.baseline import Baseline, BaselineCell, read_baseline, write_baseline
from bench.compare.compare import compare_cells, exit_code
from tests.conftest import ROOT

# -- comparing


def cell(name: str, reserved: int, **changes: int) -> BaselineCell:
    values = {"requested_bytes": reserved - 2, "allocated_bytes": reserved - 1} | changes
    return BaselineCell(
        name=name, reserved_bytes=reserved, breakdown={"weights": reserved}, **values
    )


@pytest.mark.parametrize(
    ("then", "now", "changes", "code"),
    [
        ([cell("a", 100)], [cell("a", 100)], ["same"], 0),
        ([cell("a", 100)], [cell("a", 101)], ["worse"], 1),
        ([cell("a", 100)], [cell("a", 99)], ["better"], 5),
        ([cell("a", 100), cell("b", 1)], [cell("a", 100)], ["same", "missing"], 1),
        ([cell("a", 100)], [cell("a", 100), cell("b", 1)], ["same", "new"], 5),
        ([cell("a", 100), cell("b", 9)], [cell("a", 90), cell("b", 10)], ["better", "worse"], 1),
        ([cell("a", 100)], [cell("a", 100, allocated_bytes=100)], ["worse"], 1),
        ([cell("a", 100)], [cell("a", 90, requested_bytes=99)], ["worse"], 1),
    ],
)
def test_every_cell_of_either_side_is_told_of(then, now, changes, code) -> None:
    differences = compare_cells(then, now)
    assert [d.change for d in differences] == changes
    assert exit_code(differences) == code


def test_a_tolerance_is_a_share_of_the_old_number() -> None:
    assert exit_code(compare_cells([cell("a", 1000)], [cell("a", 1009)], tolerance_percent=1)) == 0
    assert exit_code(compare_cells([cell("a", 1000)], [cell("a", 1011)], tolerance_percent=1)) == 1
    assert exit_code(compare_cells([cell("a", 1000)], [cell("a", 980)], tolerance_percent=1)) == 5


# -- the command, on files


@pytest.fixture
def files(tmp_path: Path):
    """Write two baselines and compare them by the command."""

    def run(then: list[BaselineCell], now: list[BaselineCell], *more: str):
        for name, cells in (("then.json", then), ("now.json", now)):
            write_baseline(tmp_path / name, baseline(cells))
        arguments = ["compare", str(tmp_path / "then.json"), str(tmp_path / "now.json"), *more]
        return CliRunner().invoke(cli.main, arguments)

    return run


def baseline(cells: list[BaselineCell], **changes) -> Baseline:
    values = {"schema": 1, "torch": version("torch"), "timm": version("timm")} | changes
    values.setdefault("recipe", "cifar10")
    return Baseline(target="rtx4050", allocator="expandable", cells=tuple(cells), **values)


@pytest.mark.parametrize(("reserved", "code"), [(100, 0), (101, 1), (99, 5)])
def test_the_exit_code_says_which(files, reserved: int, code: int) -> None:
    assert files([cell("a", 100)], [cell("a", reserved)]).exit_code == code


def test_markdown_serves_a_pull_request(files) -> None:
    result = files([cell("a/fp16/8x1", 2**30)], [cell("a/fp16/8x1", 2**30 + 2**21)], "--markdown")
    assert result.exit_code == 1
    assert "**Memory** · 1 cells: 1 worse" in result.output
    assert "| a/fp16/8x1 | worse" in result.output and "+2.00" in result.output
    assert "bench compare --update" in result.output


def test_json_is_one_document(files) -> None:
    result = files([cell("a", 100)], [cell("a", 99)], "--json")
    document = json.loads(result.output)
    assert document["exit_code"] == 5 and document["cells"][0]["change"] == "better"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("{}", "schema is missing."),
        ("[" * 1000 + "]" * 1000, "is nested more than 32 deep"),
        ("9" * 5000, "Exceeds the limit"),
        ('{"schema": "1"}', "schema = '1' is not possible"),
        (None, "memory.json --update."),
    ],
)
def test_what_is_no_baseline_is_one_sentence(tmp_path: Path, content, sentence) -> None:
    path = tmp_path / "memory.json"
    if content is not None:
        path.write_text(content)
    result = CliRunner().invoke(cli.main, ["compare", str(path)])
    assert result.exit_code == 2 and sentence in result.output


def test_cells_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    for cells, sentence in (
        ([cell("a", 100), cell("a", 100)], "has cell 'a' more than once"),
        ([cell("a", -1)], "is not possible"),
    ):
        write_baseline(path, baseline(cells))
        result = CliRunner().invoke(cli.main, ["compare", str(path)])
        assert result.exit_code == 2 and sentence in result.output


def test_where_no_owner_moved_none_is_named() -> None:
    before, after = cell("a", 100), replace(cell("a", 100), reserved_bytes=200)
    (difference,) = compare_cells([before], [after])
    assert (difference.change, difference.owner) == ("worse", "")


def test_numbers_of_another_release_are_not_compared(tmp_path: Path) -> None:
    write_baseline(tmp_path / "memory.json", baseline([cell("a", 10)], torch="1.0"))
    result = CliRunner().invoke(cli.main, ["compare", str(tmp_path / "memory.json")])
    assert result.exit_code == 2
    assert "was made with torch 1.0" in result.output and "--update" in result.output


def test_the_committed_baseline_can_be_read_and_holds_the_grid() -> None:
    path = ROOT / "results" / "baseline" / "memory.json"
    cells = read_baseline(path).cells
    assert len(cells) == 3 * 3 * 3 * 2
    for one in cells:
        assert sum(one.breakdown.values()) <= one.reserved_bytes


@pytest.mark.parametrize("other", [["--target", "rtx2060"], ["--recipe", "demo"]])
@pytest.mark.parametrize("update", [[], ["--update"]])
def test_a_baseline_of_another_card_or_recipe_is_neither_compared_nor_overwritten(
    tmp_path: Path, other: list[str], update: list[str]
) -> None:
    path = tmp_path / "memory.json"
    write_baseline(path, baseline([cell("a", 10)]))
    before = path.read_bytes()
    result = CliRunner().invoke(cli.main, ["compare", str(path), *other, *update])
    assert result.exit_code == 2 and "is for target rtx4050, recipe cifar10" in result.output
    assert path.read_bytes() == before


def test_two_files_of_different_cards_are_not_compared(tmp_path: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    write_baseline(here, baseline([cell("a", 10)]))
    write_baseline(there, replace(baseline([cell("a", 10)]), target="rtx2060"))
    result = CliRunner().invoke(cli.main, ["compare", str(here), str(there)])
    assert result.exit_code == 2 and "asked is for target rtx2060" in result.output
