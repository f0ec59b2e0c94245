"""Finding a run and what it holds."""

import shutil
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.report.found_run import FoundRun, find_run
from distill.report.run_report import report_run
from distill.spec.own_teacher import asked_teacher
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import with_own_teacher
from tests.conftest import ROOT


def test_a_stage_that_ones_own_teacher_replaced_is_not_called_unfinished(tmp_path: Path) -> None:
    asked = asked_teacher("mine.safetensors", "vit_tiny_patch16_224", "all")
    run = FoundRun(folder=tmp_path, recipe=with_own_teacher(load_recipe("demo"), asked))
    with pytest.raises(UserError, match="trained no teacher: mine.safetensors taught in its place"):
        run.results("teacher")
    with pytest.raises(UserError, match=r"Stage assistant of .* is not finished"):
        run.results("assistant")


def test_what_is_no_run_is_told_with_the_runs_that_are_near(tmp_path: Path) -> None:
    run = tmp_path / "results" / "from_scratch" / "digits"
    (run / "student").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    for given, words in {
        run.with_name("digit"): f"There is no run .*digit. Did you mean {run}?",
        run / "student": f"Name the run that it lies in: {run}.",
        tmp_path / "results": f"Below it: {run}.",
    }.items():
        with pytest.raises(UserError, match=words):
            find_run(given)


def test_a_finished_run_says_what_to_do_next_with_a_path_that_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my runs" / "one"
    shutil.copytree(ROOT / "tests/old_files/run", run)
    report_run(None, run)
    said = capsys.readouterr().out
    assert f"distill predict '{run}' --stage assistant IMAGE" in said
    assert f"bench report --run '{run}'" in said
