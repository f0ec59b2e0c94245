"""Photos are not shrunk to next to nothing without a word."""

import os
from pathlib import Path

import pytest
from PIL import Image

from distill.base.errors import UserError
from distill.data.photo_sizes import shorter_side_of, shrinking_told
from distill.spec.own_work import OwnWork, named_for_data
from distill.spec.recipe import load_recipe


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Three photos in each of two classes, 120 pixels high and 160 wide; one is torn."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("RGB", (160, 120), "grey").save(tmp_path / label / f"{number}.jpg")
    (tmp_path / "cat" / "0.jpg").write_bytes(b"torn")
    return f"folder:{tmp_path}"


def told(recipe: str, work: OwnWork) -> str | None:
    filed = load_recipe(recipe)
    return shrinking_told(named_for_data(filed, work), chosen=work.chooses_pixels(filed))


def test_the_shorter_side_is_read_off_some_files(photos: str) -> None:
    assert shorter_side_of(photos) == 120


def test_a_pipe_among_the_photos_is_not_waited_for(photos: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    assert shorter_side_of(photos) == 120


def test_pixels_of_other_data_are_refused_for_photos(photos: str) -> None:
    words = "are about 120 pixels wide and become 8. .* --image-size .* distill init"
    with pytest.raises(UserError, match=words):
        told("demo", OwnWork(dataset=photos))
    with pytest.raises(UserError, match="Recipe demo is for small pictures"):
        told(f"demo:{photos}", OwnWork())


def test_pixels_that_were_chosen_are_taken_and_told(photos: str, recipe_file: Path) -> None:
    said = told("demo", OwnWork(dataset=photos, image_size=16))
    assert said == f"Note: the images of {photos} are about 120 pixels wide and become 16."
    recipe_file.write_text(recipe_file.read_text().replace('"digits"', f'"{photos}"'))
    assert "become 8" in (told(str(recipe_file), OwnWork()) or "")
    assert "become 8" in (told(str(recipe_file), OwnWork(dataset=photos)) or "")


def test_nothing_is_said_of_pixels_enough(photos: str) -> None:
    assert told("cifar10_short", OwnWork(dataset=photos)) is None
    assert told("demo", OwnWork(dataset=photos, image_size=100)) is None
    assert told("demo", OwnWork()) is None


def test_a_published_set_that_becomes_small_is_told_and_taken() -> None:
    said = told("demo", OwnWork(dataset="pathmnist_224"))
    assert said is not None and "are about 224 pixels wide and become 8, as recipe demo" in said
    assert told("demo", OwnWork(dataset="pathmnist_224", image_size=16)) is None
    assert told("fashion", OwnWork(dataset="cifar10")) is None
