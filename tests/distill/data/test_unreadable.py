"""Images that can't be read: all told at once, or left out where that is asked for."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from distill.base.errors import UserError
from distill.data.dataset import Dataset
from distill.data.load import load_dataset
from tests.conftest import RECIPE
from tests.distill.data.test_folder import SIZE, in_parts, photos
from tests.forked import forked


def damaged(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).write_bytes(b"no image")
    return root


def load(root: Path, data: Path, **values: bool) -> Dataset:
    return load_dataset(f"folder:{root}", SIZE, data, **values)


def test_they_are_left_out_and_the_others_keep_their_pixels_and_labels(tmp_path: Path) -> None:
    root = photos(tmp_path / "images", each=10)
    whole = load(photos(tmp_path / "whole", each=10), tmp_path / "data")
    damaged(root, "kind0/3.png", "kind1/0.png")
    os.mkfifo(root / "kind1" / "pipe.png")
    with pytest.raises(UserError, match=r"Cannot read 3 of 21 images: .*or leave them out: --skip"):
        load(root, tmp_path / "data")
    data = load(root, tmp_path / "data", skip_unreadable=True)
    assert [Path(line.split(":")[0]).name for line in data.unreadable] == [
        *("3.png", "0.png", "pipe.png")
    ]
    parts = (data.train, data.val, data.test)
    assert sum(len(part) for part in parts) == 18

    def pictures(found: Dataset, label: int) -> set[bytes]:
        return {
            part.images_at(np.array([place])).tobytes()
            for part in (found.train, found.val, found.test)
            for place in np.flatnonzero(part.labels == label)
        }

    for label in (0, 1):
        left = pictures(data, label)
        assert len(left) == 9 and left < pictures(whole, label)


def test_what_was_found_holds_the_next_time_with_and_without(tmp_path: Path) -> None:
    root = damaged(photos(tmp_path / "images", each=10), "kind0/3.png")
    first = load(root, tmp_path / "data", skip_unreadable=True)
    again = load(root, tmp_path / "data", skip_unreadable=True)
    assert again.unreadable == first.unreadable and len(again.train) == len(first.train)
    with pytest.raises(UserError, match="Cannot read 1 of 20 images"):
        load(root, tmp_path / "data")


def test_copies_are_found_among_what_is_left(tmp_path: Path) -> None:
    root = in_parts(tmp_path / "images", "train", "test")
    damaged(root, *(f"train/kind0/{number}.png" for number in range(3)))
    data = load(root, tmp_path / "data", skip_unreadable=True)  # its parts hold the same photos
    assert any("17 of 20 test images are copies of images in" in note for note in data.notes)


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ([f"kind0/{number}.png" for number in range(6)], "train on of class 'kind0' can be read"),
        ([f"kind0/{number}.png" for number in range(4)], r"Class 'kind0' has 2 image\(s\)"),
        (
            [f"kind{label}/{number}.png" for label in (0, 1) for number in range(6)],
            "None of the 12 images can be read",
        ),
    ],
)
def test_too_few_that_are_left_are_one_sentence(
    tmp_path: Path, gone: list[str], sentence: str
) -> None:
    root = damaged(photos(tmp_path / "images"), *gone)
    with pytest.raises(UserError, match=sentence):
        load(root, tmp_path / "data", skip_unreadable=True)


@pytest.mark.slow
def test_a_run_lists_them_in_its_folder_and_takes_labels_from_a_list(tmp_path: Path) -> None:
    root = damaged(photos(tmp_path / "images", each=12), "kind0/3.png")
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in root.rglob("*.png")]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,label", *lines, "images/gone.png,kind1"]))
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE.replace("image_size = 8", "image_size = 16"))
    command = ("distill", "run", "--recipe", recipe, "--dataset", f"csv:{labels}", "--epochs", "1")
    where = ("--stage", "teacher", "--device", "cpu", "--data-dir", tmp_path / "data")
    refused = forked(*command, *where, cwd=tmp_path)
    assert refused.returncode == 2
    assert "Cannot read 2 of 25 images" in refused.stderr
    done = forked(*command, *where, "--skip-unreadable", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "results" / "from_scratch").iterdir())
    assert run.name.endswith("-labels")
    assert len((run / "unreadable.txt").read_text().splitlines()) == 2
    assert "2 images left out, unreadable: see" in done.stderr
    trained_on = int(re.search(r"(\d+) images to train on", done.stderr)[1])
    config = json.loads(next((run / "teacher" / "logs").glob("*_config.json")).read_text())
    assert config["candidate"]["images_per_epoch"] == trained_on
    assert json.loads((run / "run.json").read_text())["values"]["skip_unreadable"] is True
    tested = forked("distill", "evaluate", run, *where[2:], cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    (tmp_path / "own.csv").write_text("\n".join(["file,label", *lines[:1]]))
    own = ("--dataset", f"csv:{tmp_path / 'own.csv'}")
    warned = forked("distill", "evaluate", run, *where[2:], *own, cwd=tmp_path).stderr
    assert "1 image; all of the list" in warned
    assert "warning: 1 image of these are among those that" in warned
