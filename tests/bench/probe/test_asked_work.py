"""What a probe is asked to look at, and how the run of its profile is asked for the same."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from bench.probe.asked_work import asked_recipe, name_ending, run_command
from bench.probe.command import ProbeOptions
from distill.base.errors import UserError
from distill.spec.recipe import load_recipe

PLAIN = ProbeOptions(
    vram=6,
    recipe_name="demo",
    dataset=None,
    model=(),
    image_size=None,
    teacher_weights=None,
    teacher_model=None,
    teacher=None,
    teacher_views=None,
    device="predict",
    target_name="auto",
    allocator=None,
    out=None,
    results=Path("results"),
    force=False,
)
OTHER = replace(PLAIN, dataset="fashion_mnist", image_size=28, model=("student=resnet10t",))


def words_of(options: ProbeOptions) -> list[str]:
    """The words of the command behind its name."""
    found = shlex.split(run_command(options, asked_recipe(options), Path("a b.json")))
    assert found[1:4] == ["run", "--profile", "a b.json"]
    return found[4:]


def test_without_options_it_is_the_recipe_and_the_profile_says_which() -> None:
    assert asked_recipe(PLAIN) == load_recipe("demo")
    assert words_of(PLAIN) == []
    assert name_ending(PLAIN) == ""


def test_other_work_is_in_the_recipe_in_the_name_and_in_the_next_command() -> None:
    recipe = asked_recipe(OTHER)
    assert (recipe.name, recipe.dataset, recipe.image_size) == (
        "demo:fashion_mnist",
        "fashion_mnist",
        28,
    )
    assert recipe.candidate("student").student.name == "resnet10t"
    assert name_ending(OTHER) == "-student-resnet10t-28px"
    assert words_of(OTHER) == ["--model", "student=resnet10t", "--image-size", "28"]


def test_a_recipe_of_ones_own_is_named_to_the_run_too(recipe_file: Path) -> None:
    own = replace(PLAIN, recipe_name=str(recipe_file))
    assert words_of(own) == ["--recipe", str(recipe_file)]
    elsewhere = replace(own, dataset="fashion_mnist")
    assert words_of(elsewhere) == ["--recipe", str(recipe_file), "--dataset", "fashion_mnist"]


def test_a_model_without_its_stage_is_one_sentence() -> None:
    with pytest.raises(UserError, match="Write STAGE=resnet18"):
        asked_recipe(replace(PLAIN, model=("resnet18",)))
