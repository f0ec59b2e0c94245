"""The command line of `distill run` as values, before torch is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.cli.run_command import run
from distill.cli.run_options import RunOptions
from distill.cli.run_settings import RunSettings, settings_of
from distill.spec.own_work import OwnWork, named_for_data
from distill.spec.profile import Profile, RecipeMark, read_profile, write_profile
from distill.spec.recipe import Recipe, load_recipe
from tests.conftest import ROOT

DEMO = ROOT / "profiles" / "demo-6gb.json"
WORK = OwnWork(models={"student": "resnet18"}, image_size=32)
WORDS = ("--model", "student=resnet18", "--image-size", "32")


def settings(*words: str | Path) -> RunSettings:
    """The settings of `distill run` with those words."""
    context = run.make_context("run", [str(word) for word in words])
    return settings_of(RunOptions(**context.params))


def profile_for(recipe: Recipe, folder: Path) -> Path:
    """The demo's profile as a probe of that recipe would write it."""
    profile: Profile = read_profile(DEMO)
    choices = []
    for choice in profile.choices:
        asked = recipe.candidate(choice.stage)
        made = replace(choice.candidate, student=asked.student, teacher=asked.teacher)
        choices.append(choice.model_copy(update={"candidate": made}))
    mark = RecipeMark(name=recipe.name, digest=recipe.digest())
    path = folder / "profile.json"
    write_profile(path, profile.model_copy(update={"choices": tuple(choices), "recipe": mark}))
    return path


def test_a_profile_of_other_work_is_held_against_that_work(tmp_path: Path) -> None:
    probed = named_for_data(load_recipe("demo"), WORK)
    found = settings("--profile", profile_for(probed, tmp_path), *WORDS)
    assert found.filed_recipe == probed
    assert found.recipe.model_of("student").name == "resnet18"
    with pytest.raises(UserError, match="is for another student"):
        settings("--profile", tmp_path / "profile.json")


def test_a_profile_of_the_recipe_alone_is_held_against_it_whatever_else_is_changed() -> None:
    assert settings("--profile", DEMO, "--epochs", "3").filed_recipe == load_recipe("demo")


def test_a_profile_of_a_file_asks_for_the_file(tmp_path: Path, recipe_file: Path) -> None:
    recipe = load_recipe("demo").model_copy(update={"name": "mine"})
    path = profile_for(recipe, tmp_path)
    with pytest.raises(UserError, match="recipe mine, which is a file of yours. Name it too"):
        settings("--profile", path)


def test_a_recipe_with_other_values_than_the_profiles_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("demo").model_copy(update={"seed": 7})
    path = profile_for(recipe, tmp_path)
    settings("--profile", path)
    words = "was made for a recipe demo with other values than the one that comes along"
    assert words in capsys.readouterr().err
    settings("--profile", path, "--recipe", "demo")
    settings("--profile", DEMO)
    assert words not in capsys.readouterr().err


def test_a_stages_model_may_be_named_by_the_stage_that_is_trained() -> None:
    found = settings("--recipe", "demo", "--stage", "teacher", "--model", "resnet18")
    assert found.recipe.model_of("teacher").name == "resnet18"
    assert found.recipe.stage[1:] == load_recipe("demo").stage[1:]


def test_pixels_that_no_patch_covers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    settings("--recipe", "demo", "--image-size", "9")
    said = capsys.readouterr().err
    assert "Note: patches of 2 pixels leave 1 of 9 out of what the teacher sees." in said
    settings("--recipe", "demo", "--image-size", "16")
    settings("--recipe", "fashion")
    assert not capsys.readouterr().err
