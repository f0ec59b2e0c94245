"""Memory regression: what the gate says of each mistake that costs memory, by cell and owner."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import pytest
import torch
from click.testing import CliRunner

from bench import cli
from bench.card.targets import target_named
from bench.compare.baseline import Baseline, BaselineCell, read_baseline, write_baseline
from bench.compare.cells import cell_name, cell_of
from bench.compare.compare import compare_cells, exit_code
from bench.simulate.cache import TraceCache
from bench.simulate.predictor import Predictor
from distill.spec.candidate import Candidate
from distill.spec.recipe import load_recipe
from distill.step import step
from distill.step.step import Step
from tests.conftest import ROOT


def candidates() -> list[Candidate]:
    """A taught student at 224 px: fp16, with and without checkpointing, whole batches only."""
    student = replace(
        load_recipe("cifar10").candidate("student", micro_batch=16),
        accumulation=1,
        images_per_epoch=None,
        precision="fp16",
        implementation="fused",
    )
    return [student, replace(student, checkpointing=1)]


def predict_all() -> list[BaselineCell]:
    """Every cell, traced anew: the source on disk does not show what a test plants."""
    predictor = Predictor(target_named("rtx4050"), "expandable", TraceCache(None))
    return [cell_of(cell_name(c), predictor.predict(c)) for c in candidates()]


@pytest.fixture(scope="module")
def clean() -> list[BaselineCell]:
    return predict_all()


# -- the mistakes


@contextmanager
def a_retained_activation() -> Iterator[None]:
    """Somebody keeps the logits, and with them the graph, for a plot."""
    original = Step._forward

    def forward(self, batch):
        loss, predicted = original(self, batch)
        self.last_losses = [*getattr(self, "last_losses", [])[-1:], loss]
        return loss, predicted

    with mock.patch.object(Step, "_forward", forward):
        yield


@contextmanager
def an_unfrozen_teacher() -> Iterator[None]:
    """`no_grad` is there, `requires_grad_(False)` is not: autocast keeps half copies."""
    original = Step.__init__

    def init(self, student, teacher, *args, **kwargs):
        original(self, student, teacher, *args, **kwargs)
        if self.teacher is not None:
            self.teacher.requires_grad_(True)

    with mock.patch.object(Step, "__init__", init):
        yield


@contextmanager
def backward_inside_autocast() -> Iterator[None]:
    """The copies of the weights live until the end of backward."""

    def accumulate(self, batch, weight):
        with torch.autocast("cuda", dtype=torch.float16):
            loss, logits = self._forward(batch)
            value = loss.detach().cpu()
            scaled = self.scaler.scale(loss * weight)
            del loss
            self.mark("backward")
            scaled.backward()
        return step.MicroResult(value, logits)

    with mock.patch.object(Step, "_accumulate", accumulate):
        yield


@contextmanager
def a_lost_set_to_none() -> Iterator[None]:
    """Gradients are zeroed and stay through the next forward."""
    original = torch.optim.AdamW.zero_grad
    keep = lambda self, set_to_none=True: original(self, set_to_none=False)  # noqa: E731
    with mock.patch.object(torch.optim.AdamW, "zero_grad", keep):
        yield


@contextmanager
def checkpointing_that_does_nothing() -> Iterator[None]:
    """The flag is accepted and forgotten."""
    with mock.patch("distill.step.models.checkpoint_blocks", lambda model, every: None):
        yield


PLANTED: list[tuple[Callable, set[int], set[str]]] = [
    (a_retained_activation, {0, 1}, {"activations", "temporaries"}),
    (an_unfrozen_teacher, {0, 1}, {"teacher", "low_precision_weights"}),
    (backward_inside_autocast, {1}, {"low_precision_weights", "temporaries", "activations"}),
    (a_lost_set_to_none, {0, 1}, {"gradients"}),
    (checkpointing_that_does_nothing, {1}, {"activations"}),
]


@pytest.mark.parametrize(
    ("plant", "cells", "owners"), PLANTED, ids=lambda p: getattr(p, "__name__", "")
)
def test_each_planted_mistake_is_caught_by_cell_and_owner(clean, plant, cells, owners) -> None:
    with plant():
        differences = compare_cells(clean, predict_all())
    assert exit_code(differences) == 1
    worse = {i for i, difference in enumerate(differences) if difference.change == "worse"}
    assert worse >= cells
    for index in cells:
        assert differences[index].name == clean[index].name
        assert differences[index].delta_bytes > 0
        assert differences[index].owner in owners, differences[index]


def test_a_clean_tree_is_the_same_to_the_byte(clean) -> None:
    differences = compare_cells(clean, predict_all())
    assert {d.change for d in differences} == {"same"} and exit_code(differences) == 0


def test_an_improvement_makes_the_baseline_stale(clean) -> None:
    with checkpointing_that_does_nothing():
        before = predict_all()
    differences = compare_cells(before, clean)
    assert exit_code(differences) == 5
    assert [d.change for d in differences] == ["same", "better"]
    assert differences[1].owner == "activations" and differences[1].delta_bytes < 0


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
        (None, "Make one: bench compare --update"),
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
    assert len(cells) == 3 * 3 * 2 * 2
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
