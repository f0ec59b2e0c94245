"""Memory regression: what is said of cells that changed, and of files that are none."""

import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import cli
from bench.compare.baseline import Baseline, BaselineCell, read_baseline, write_baseline
from bench.compare.compare import compare_cells, exit_code, worst_first
from bench.compare.compare_page import compare_page
from bench.compare.compare_text import Compared, compare_markdown, compare_text
from bench.report.page import page_text
from bench.schema.command import FORMS
from bench.schema.schemas import schema_of
from tests.bench.schema.json_schema import problems
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


# -- lists that end


LONG = "student/" + "[x](http://a)|`*_<b>" * 9


def thousand(worse: bool) -> Compared:
    """A thousand cells with long names, all changed."""
    ops = {"activations": {"addmm.default": 2**20, f"{'o' * 150}.default": 5}}
    before = [replace(cell(f"{LONG}{n}", 2**30), ops=ops) for n in range(1000)]
    grown = {"activations": {"addmm.default": 2**21}}
    after = [
        replace(
            one,
            reserved_bytes=2**30 + (n + 1) * (2**20 if worse else -(2**19)),
            breakdown={"activations": 2**31 if worse else 0, "weights": 2**30},
            ops=grown if worse else {"activations": {}},
        )
        for n, one in enumerate(before)
    ]
    return Compared(
        before=baseline(before), after=baseline(after), differences=compare_cells(before, after)
    )


@pytest.mark.parametrize("worse", [True, False])
def test_a_thousand_changed_cells_fit_in_a_comment_and_the_rest_is_counted(worse: bool) -> None:
    text = compare_markdown(thousand(worse))
    assert len(text) < 65_536
    listed = [line for line in text.splitlines() if line.startswith("| student/")]
    assert 0 < len(listed) < 1000
    assert f"… and {1000 - len(listed)} cells more that changed" in plain_text(text)
    assert text.startswith(
        f"**Memory** · {'worse' if worse else 'better'}: 1,000 cells; most: student/"
    )
    assert all(line.replace("\\|", "").count("|") == 9 for line in listed)
    assert not re.search(r"(?<!\\)[<`\[]", text)


def plain_text(text: str) -> str:
    return text.replace("\\", "")


def test_a_terminal_shows_forty_and_the_worst_is_the_first() -> None:
    lines = compare_text(thousand(True)).splitlines()
    assert "by +1,000.00 MiB reserved, of activations kept for backward (addmm)" in lines[0]
    assert lines[1] == "1,000 cells: 1,000 worse"
    rows = [line for line in lines if " worse " in line and line.startswith("student/")]
    assert len(rows) == 40 and "+1,000.00" in rows[0]
    assert "… and 960 cells more that changed: --json and --html FILE list all." in lines


def test_worse_comes_before_missing_new_and_better() -> None:
    then = [cell(name, 100) for name in ("better", "missing", "same", "worse", "worst")]
    now = [cell("better", 1), cell("same", 100), cell("worse", 101), cell("worst", 200)]
    found = compare_cells(then, [*now, cell("new", 1)])
    order = ["worst", "worse", "missing", "new", "better", "same"]
    assert [one.name for one in worst_first(found)] == order


def test_the_op_of_a_regression_is_named_where_both_sides_tell() -> None:
    before = replace(cell("a", 100), ops={"weights": {"one": 60, "other": 40}})
    after = replace(cell("a", 130), ops={"weights": {"one": 65, "other": 65}})
    (found,) = compare_cells([before], [after])
    assert (found.owner, found.op, found.op_delta_bytes) == ("weights", "other", 25)
    (found,) = compare_cells([replace(before, ops=None)], [after])
    assert (found.owner, found.op) == ("weights", "")


def test_of_slack_the_op_that_moved_most_is_named() -> None:
    before = replace(cell("a", 100), ops={"weights": {"w": 60}, "activations": {"x": 10}})
    slack = {"weights": 100, "allocator_slack": 30}
    after = replace(
        before,
        reserved_bytes=130,
        breakdown=slack,
        ops={"weights": {"w": 60}, "activations": {"x": 12}},
    )
    (found,) = compare_cells([before], [after])
    assert (found.owner, found.op, found.op_delta_bytes) == ("allocator_slack", "x", 2)


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
    assert result.output.startswith("**Memory** · worse: a/fp16/8x1 by +2.00 MiB reserved")
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
        ("{}", "is no baseline: it has no schema."),
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


# -- what the sides are of


def test_versions_that_differ_are_said_between_two_files(tmp_path: Path) -> None:
    then, now = tmp_path / "then.json", tmp_path / "now.json"
    write_baseline(then, baseline([cell("a", 10)]))
    write_baseline(now, baseline([cell("a", 12)], torch="9.0", timm="8.0"))
    result = CliRunner().invoke(cli.main, ["compare", str(then), str(now)])
    assert result.exit_code == 1
    assert f"The sides differ: torch {version('torch')} → 9.0, timm " in result.output
    assert "→ 8.0, target rtx4050, recipe cifar10" in result.output
    result = CliRunner().invoke(cli.main, ["compare", str(then), str(then)])
    assert f"Both sides predicted: torch {version('torch')}, timm" in result.output


def test_a_pull_request_is_told_that_releases_differ(tmp_path: Path) -> None:
    write_baseline(tmp_path / "memory.json", baseline([cell("a", 10)], torch="1.0"))
    result = CliRunner().invoke(cli.main, ["compare", str(tmp_path / "memory.json"), "--markdown"])
    assert result.exit_code == 2
    assert result.stdout.startswith("**Memory** · not compared. Baseline ")
    assert "torch 1.0" in result.stdout and "timm" in result.stderr


def test_the_json_is_as_its_schema_says(files) -> None:
    document = json.loads(files([cell("a", 100)], [cell("a", 99), cell("b", 9)], "--json").output)
    schema = schema_of(FORMS["compare"])
    assert problems(schema, document, schema) == []
    assert document["baseline"]["target"] == document["current"]["target"] == "rtx4050"


# -- one page


def test_a_page_has_the_verdict_every_change_and_the_worst_cells_by_owner_and_op(
    tmp_path: Path, files
) -> None:
    hostile = "<script>alert(1)</script>"
    ops = {"weights": {"addmm.default": 60, hostile: 40}}
    before = [replace(cell("a", 2**20), ops=ops), cell(hostile, 5), cell("same", 7)]
    after = [
        replace(cell("a", 2**21), ops={"weights": {"addmm.default": 2**20}}),
        cell(hostile, 6),
        cell("same", 7),
    ]
    path = tmp_path / "memory.html"
    result = files(before, after, "--html", str(path))
    assert result.exit_code == 1 and f"Wrote {path}" in result.stderr
    page = path.read_text()
    assert hostile not in page
    assert "worse: 2 cells; most: a by +1.00 MiB reserved, of weights (addmm)" in page
    assert "a: owners" in page and "a: ops where most is requested" in page
    assert "weights: addmm" in page and "All 3 cells" in page


def test_a_page_of_a_thousand_changed_cells_has_them_all() -> None:
    page = page_text(compare_page(thousand(True)))
    assert page.count("<td") > 1000 * 8 and "All 1,000 cells" in page


def test_a_place_for_a_page_is_refused_before_anything_is_predicted(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["compare", "--html", str(tmp_path / "page.txt")])
    assert result.exit_code == 2 and "must end in .html" in result.output
