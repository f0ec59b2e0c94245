"""A recipe as a file that explains itself: reading it gives the recipe back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.spec.own_teacher import OwnTeacher
from distill.spec.recipe import Recipe, load_recipe, recipe_names
from distill.spec.recipe_text import AUGMENTATION, DISTILLATION, TRAINING, WHOLE, recipe_text
from distill.spec.training import Augmentation, Distillation, TrainingValues


def read_back(folder: Path, text: str) -> Recipe:
    path = folder / "written.toml"
    path.write_text(text)
    return load_recipe(str(path))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_along_reads_back(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    assert read_back(tmp_path, recipe_text(recipe, "Two\nlines.")) == recipe


@given(name=st.text(max_size=100), place=st.text(max_size=100), rate=st.floats(1e-12, 100))
def test_any_words_and_numbers_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: str, rate: float
) -> None:
    name, place = (text.encode(errors="ignore").decode() for text in (name, place))
    recipe = load_recipe("demo")
    changed = recipe.model_copy(
        update={
            "name": name.replace(":", ""),
            "about": place,
            "dataset": f"folder:{place}",
            "training": recipe.training.model_copy(update={"learning_rate": rate}),
        }
    )
    assert read_back(tmp_path_factory.getbasetemp(), recipe_text(changed)) == changed


def test_a_teacher_of_ones_own_reads_back(tmp_path: Path) -> None:
    recipe = load_recipe("demo")
    own = OwnTeacher(weights="best.safetensors", name="resnet18")
    first = recipe.stage[0].model_copy(update={"own_teacher": own})
    changed = recipe.model_copy(update={"stage": (first, *recipe.stage[1:])})
    assert read_back(tmp_path, recipe_text(changed)) == changed


def test_every_key_of_a_recipe_is_explained() -> None:
    parts = {"training", "augmentation", "distillation", "stage"}
    assert set(WHOLE) == set(Recipe.model_fields) - parts
    assert set(TRAINING) == set(TrainingValues.model_fields)
    assert set(AUGMENTATION) == set(Augmentation.model_fields)
    assert set(DISTILLATION) == set(Distillation.model_fields)


def test_a_key_that_is_off_can_be_put_on_as_it_stands(tmp_path: Path) -> None:
    text = recipe_text(load_recipe("demo"))
    for key in ("skip_unreadable", "criterion", "patience", "balance", "teacher_views", "loss"):
        assert f"# {key} = " in text
        text = text.replace(f"# {key} = ", f"{key} = ")
    recipe = read_back(tmp_path, text)
    assert recipe.skip_unreadable
    assert (recipe.training.patience, recipe.distillation.loss) == (5, "kl")
