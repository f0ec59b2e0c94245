"""Finding a run and what it holds."""

from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.report.found_run import FoundRun
from distill.spec.own_teacher import asked_teacher
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import with_own_teacher


def test_a_stage_that_ones_own_teacher_replaced_is_not_called_unfinished(tmp_path: Path) -> None:
    asked = asked_teacher("mine.safetensors", "vit_tiny_patch16_224", "all")
    run = FoundRun(folder=tmp_path, recipe=with_own_teacher(load_recipe("demo"), asked))
    with pytest.raises(UserError, match="trained no teacher: mine.safetensors taught in its place"):
        run.results("teacher")
    with pytest.raises(UserError, match=r"Stage assistant of .* is not finished"):
        run.results("assistant")
