"""A recipe of one's own, made from one that comes along."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.base.errors import UserError
from distill.spec.new_recipe import (
    Wishes,
    as_dataset,
    new_recipe,
    own_name,
    pixels_for,
    start_for,
)
from distill.spec.recipe import Recipe, load_recipe, recipe_names


def made(start: str, dataset: str = "digits", image_size: int = 8, **more: object) -> Recipe:
    wishes = Wishes(name="own", dataset=dataset, image_size=image_size, **more)  # type: ignore[arg-type]
    return new_recipe(load_recipe(start), wishes)


@given(st.sampled_from(["demo", "fashion"]), st.integers(8, 512))
def test_patches_cut_the_image_without_a_rest_into_about_as_many(start: str, pixels: int) -> None:
    before = load_recipe(start)
    for stage in made(start, image_size=pixels).stage:
        patch = stage.model.patch_size
        assert patch is not None and pixels % patch == 0
        if pixels % 4 == 0:
            assert pixels // patch == before.image_size // (before.stage[0].model.patch_size or 1)


def test_a_stage_that_is_left_out_hands_its_teacher_on() -> None:
    chain = made("demo", models={"assistant": "none"}).stage
    assert [(stage.name, stage.taught_by) for stage in chain] == [
        ("teacher", None),
        ("student", "teacher"),
    ]
    first = made("medmnist", "bloodmnist", 224, models={"teacher": "none"}).stage[0]
    assert (first.name, first.taught_by, first.training) == ("assistant", None, {})


def test_epochs_are_those_of_every_stage_and_warm_up_no_longer_than_a_fifth() -> None:
    recipe = made("demo", epochs=5)
    assert {recipe.training_of(stage.name).epochs for stage in recipe.stage} == {5}
    assert recipe.training.warmup_epochs == 1


def test_an_update_takes_fewer_of_few_images(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(200):
            (tmp_path / label / f"{number}.png").touch()
    recipe = made("cifar10_short", f"folder:{tmp_path}", 224)
    assert recipe.dataset_info().train_images == 280
    assert recipe.training.effective_batch == 16
    assert recipe.augmentation.crop_padding == 28  # 4 of CIFAR's 32 pixels
    assert made("cifar10_short", "cifar10", 224).training.effective_batch == 128


@pytest.mark.parametrize(
    ("start", "more", "sentence"),
    [
        ("demo", {"pretrained": True}, "those of recipe demo have another"),
        ("demo", {"models": dict.fromkeys(("teacher", "assistant", "student"), "none")}, "a stage"),
        ("medmnist", {"dataset": "bloodmist"}, "Did you mean bloodmnist"),
    ],
)
def test_what_cannot_be_is_one_sentence(start: str, more: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        made(start, **more)


@pytest.mark.parametrize(
    ("dataset", "pretrained", "start"),
    [
        ("folder:/photos", None, "cifar10_short"),
        ("folder:/photos", False, "cifar10_scratch"),
        ("pathmnist_64", None, "medmnist"),
        ("digits", None, "demo"),
    ],
)
def test_each_data_set_has_a_recipe_to_start_from(
    dataset: str, pretrained: bool | None, start: str
) -> None:
    assert start_for(dataset, pretrained=pretrained) == start


@pytest.mark.parametrize(
    ("start", "dataset", "side", "pixels"),
    [
        ("cifar10_short", "folder:/photos", 480, 224),
        ("demo", "folder:/photos", 480, 64),
        ("demo", "folder:/photos", 30, 28),
        ("demo", "folder:/photos", None, 64),
        ("demo", "bloodmnist", None, 28),
        ("fashion", "fashion_mnist", None, 28),
        ("demo", "digits", None, 8),
    ],
)
def test_small_models_get_what_the_images_have_and_others_their_own(
    start: str, dataset: str, side: int | None, pixels: int
) -> None:
    assert pixels_for(load_recipe(start), dataset, side) == pixels


def test_a_folder_and_a_list_need_no_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "list.csv").touch()
    assert as_dataset("photos") == f"folder:{tmp_path}/photos"
    assert as_dataset("list.csv") == f"csv:{tmp_path}/list.csv"
    assert as_dataset("folder:photos") == f"folder:{tmp_path}/photos"
    (tmp_path / "digits").mkdir()
    assert as_dataset("digits") == "digits"
    assert as_dataset("./digits") == f"folder:{tmp_path}/digits"


def test_an_own_recipe_has_no_name_that_comes_along() -> None:
    assert own_name("photos") == "photos"
    assert own_name("a:b") == "a-b"
    assert not {own_name(name) for name in recipe_names()} & {*recipe_names()}
