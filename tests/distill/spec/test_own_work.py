"""Other data, models and pixels than a recipe's."""

from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.spec.candidate import StageName
from distill.spec.own_work import OwnWork, asked_models, named_for_data, with_own_work
from distill.spec.recipe import Model, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe


def test_another_model_has_timms_own_shape_and_teaches_as_it_is() -> None:
    work = OwnWork(models={"teacher": "resnet18"}, image_size=32)
    recipe = changed_recipe(load_recipe("demo"), RecipeChanges(work=work))
    assert recipe.stage[0].model == Model(name="resnet18")
    assert recipe.stage[1].model == load_recipe("demo").stage[1].model
    taught = recipe.candidate("assistant")
    assert taught.teacher is not None and taught.teacher.name == "resnet18"
    assert (taught.student.image_size, taught.teacher.image_size) == (32, 32)


def test_other_work_is_another_run() -> None:
    recipe = load_recipe("demo")
    digests = {
        with_own_work(recipe, work).digest()
        for work in (
            OwnWork(),
            OwnWork(image_size=16),
            OwnWork(models={"student": "resnet18"}),
            OwnWork(dataset="fashion_mnist"),
        )
    }
    assert len(digests) == 4
    assert recipe.digest() in digests


def test_other_data_is_in_the_name_as_if_it_had_been_asked_for_there(tmp_path: Path) -> None:
    work = OwnWork(dataset="pathmnist_64")
    assert named_for_data(load_recipe("medmnist"), work) == load_recipe("medmnist:pathmnist_64")
    assert named_for_data(load_recipe("medmnist:octmnist"), work).name == "medmnist:pathmnist_64"
    assert named_for_data(load_recipe("demo"), OwnWork(image_size=16)).name == "demo"


def test_a_folder_may_lie_deep_and_a_name_may_not_be_long(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 150) / ("y" * 150)
    found = named_for_data(load_recipe("demo"), OwnWork(dataset=f"folder:{place}"))
    assert changed_recipe(found, RecipeChanges()).name == f"demo:folder:{place}"
    with pytest.raises(UserError, match="a name has at most 200 characters"):
        changed_recipe(found.model_copy(update={"name": "x" * 201}), RecipeChanges())


@pytest.mark.parametrize(
    ("texts", "stage", "found"),
    [
        (["student=resnet18"], "all", {"student": "resnet18"}),
        (["resnet18"], "teacher", {"teacher": "resnet18"}),
        (["student=a", "teacher=b"], "student", {"student": "a", "teacher": "b"}),
        ([], "all", {}),
    ],
)
def test_a_model_is_named_for_a_stage(
    texts: list[str], stage: StageName, found: dict[str, str]
) -> None:
    assert asked_models(texts, stage) == found


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["resnet18"], "does not say for which stage. Write STAGE=resnet18"),
        (["techer=resnet18"], "'techer' is no stage. Did you mean teacher?"),
        (["student="], "names no model: student=NAME"),
        (["student=a", "student=b"], "names the student twice: a and b"),
    ],
)
def test_a_model_for_no_stage_is_one_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        asked_models(texts)


def test_a_stage_that_the_recipe_has_not_is_refused(recipe_file: Path) -> None:
    recipe = load_recipe(str(recipe_file))
    alone = recipe.model_copy(update={"stage": recipe.stage[:1]})
    with pytest.raises(UserError, match="has no stage student"):
        with_own_work(alone, OwnWork(models={"student": "resnet18"}))
