"""A photo in two parts of the data, or in two classes, is told with the count."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.copies import equal_rows
from distill.data.load import load_dataset


def drawn(root: Path, label: str, *numbers: int) -> None:
    """Noise, another one for each number."""
    (root / label).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(noise).save(root / label / f"{number}.png")


def notes_of(root: Path, tmp_path: Path) -> tuple[str, ...]:
    found = [load_dataset(f"folder:{root}", 9, tmp_path / "data").notes for _ in range(2)]
    assert found[0] == found[1]  # decoded, then found again
    return found[0]


def test_equal_files_are_groups() -> None:
    assert equal_rows(dict(enumerate([b"a", b"b", b"a", b"c", b"b", b"a"]))) == ((0, 2, 5), (1, 4))


def test_photos_that_are_all_different_are_not_spoken_of(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("test", 20)):
        drawn(tmp_path / "images" / part, "a", *range(first, first + 6))
        drawn(tmp_path / "images" / part, "b", *range(first + 6, first + 12))
    assert notes_of(tmp_path / "images", tmp_path) == ()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("test", "12 of 12 test images are copies of images in train or val; scores"),
        ("val", "10 of 12 val images are copies of images in train; scores"),
    ],
)
def test_a_part_that_is_a_copy_of_train_is_counted(tmp_path: Path, part: str, told: str) -> None:
    """Where it is `val`, the test is held out of train: two of `val` are copies of that."""
    root = tmp_path / "images"
    drawn(root / "train", "a", *range(6))
    drawn(root / "train", "b", *range(6, 12))
    shutil.copytree(root / "train", root / part)
    assert any(told in note for note in notes_of(root, tmp_path))


def test_copies_within_a_class_that_fall_into_two_parts_are_counted(tmp_path: Path) -> None:
    """Five names for each photo: what is held out is in train as well."""
    root = tmp_path / "images"
    drawn(root, "a", 0, 1)
    drawn(root, "b", 2, 3)
    for path in sorted(root.glob("*/*.png")):
        for again in range(4):
            shutil.copy(path, path.with_name(f"{path.stem}_{again}.png"))
    notes = notes_of(root, tmp_path)
    assert [note.split(" images")[0] for note in notes] == [
        "warning: 4 of 4 test",
        "warning: 2 of 2 val",
    ]


def test_a_photo_in_two_classes_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part, first in (("train", 0), ("val", 20), ("test", 40)):
        drawn(root / part, "a", first, first + 1)
        drawn(root / part, "b", first + 2, first + 3)
    shutil.copy(root / "train" / "a" / "0.png", root / "train" / "b" / "mine.png")
    (note,) = notes_of(root, tmp_path)
    assert note.startswith("warning: 2 images are copies of images in another class")
