"""`distill evaluate`: a run's own test by class, and its scores on any labelled images."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.base.errors import UserError
from distill.data.load import load_dataset
from distill.data.scored import load_scored
from distill.spec.image_test import images_to_score
from tests.conftest import ROOT
from tests.forked import forked

RUN = ROOT / "tests" / "old_files" / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(RUN, tmp_path_factory.mktemp("run") / "digits")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's own test images as files: one folder a class, in grey PNGs."""
    root = tmp_path_factory.mktemp("written") / "images"
    test = load_dataset("digits", 8, root).test
    for place, label in enumerate(test.labels):
        folder = root / "test" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = test.images_at(np.array([place]))[0, 0]
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return root


def evaluate(run: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    return forked("distill", "evaluate", run, "--device", "cpu", *words, cwd=run.parent)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_the_same_images_from_a_folder_get_the_same_answers(
    run: Path, written: Path, tmp_path: Path
) -> None:
    own = evaluate(run, "--stage", "teacher", "--to", tmp_path / "own")
    assert own.returncode == 0, own.stderr
    words = ("--dataset", f"folder:{written}", "--to", tmp_path / "folder")
    done = evaluate(run, "--stage", "teacher", *words)
    assert done.returncode == 0, done.stderr
    assert "359 images; its test part test/" in done.stderr
    assert "made grey, as the images are that the run was trained on" in done.stderr
    for name in ("classes.csv", "confusion.csv"):
        assert table(tmp_path / "own/teacher" / name) == table(tmp_path / "folder/teacher" / name)
    title = (tmp_path / "folder/teacher/classes.md").read_text().splitlines()[0]
    assert title.endswith(f": {written.name}")  # a picture has no room for the whole path
    assert (tmp_path / "folder/teacher/confusion.png").stat().st_size > 10_000


def test_some_classes_of_a_list_are_enough_and_what_is_damaged_may_be_left_out(
    run: Path, written: Path, tmp_path: Path
) -> None:
    threes = sorted((written / "test" / "3").iterdir())
    (tmp_path / "bad.png").write_bytes(b"no image")
    lines = [f"{path},3" for path in threes] + ["bad.png,3"]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,label", *lines]))
    refused = evaluate(run, "--dataset", f"csv:{labels}")
    assert refused.returncode == 2
    assert "Cannot read 1 of" in refused.stderr
    done = evaluate(run, "--dataset", f"csv:{labels}", "--skip-unreadable")
    assert done.returncode == 0, done.stderr
    assert f"{len(threes)} images; all of the list" in done.stderr
    assert "no image of 0, 1, 2, 4, 5" in done.stderr
    assert "left out:" in done.stderr and "bad.png" in done.stderr


def test_what_can_not_be_scored_is_one_sentence(run: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "cat" / "0.png")
    for words, sentence in {
        ("--dataset", f"folder:{tmp_path / 'images'}"): "images of cat, which the run does not",
        ("--dataset", "folder:nowhere"): "is not a directory",
        ("--dataset", "nowhere"): "Unknown data set",
        ("--stage", "student"): "Stage student of",
        ("--skip-unreadable",): "is for --dataset",
        ("--to", str(run)): "is the run's own folder",
    }.items():
        done = evaluate(run, *words)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    return root


def test_the_test_part_is_scored_where_there_are_parts(tmp_path: Path) -> None:
    parts = images(tmp_path / "a", "train/x/0.png", "Testing/x/0.png", "Testing/x/1.png")
    assert [len(files) for files in images_to_score(f"folder:{parts}").by_class.values()] == [2]
    plain = images(tmp_path / "b", "x/0.png", "test/1.png")  # a class of that name
    assert list(images_to_score(f"folder:{plain}").by_class) == ["test", "x"]
    without = images(tmp_path / "c", "train/x/0.png", "val/x/0.png")
    with pytest.raises(UserError, match=r"comes in parts \(train, val\) .* Name it: folder:"):
        images_to_score(f"folder:{without}")
    loose = images(tmp_path / "d", "0.png")
    with pytest.raises(UserError, match="It holds 1 image without a label"):
        images_to_score(f"folder:{loose}")
    (tmp_path / "l.csv").write_text("file,label,split\na.png,x,train\nb.png,x,val\n")
    with pytest.raises(UserError, match=r"lists no image of the test \(train, val only\)"):
        images_to_score(f"csv:{tmp_path / 'l.csv'}")


def test_a_known_set_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the run was trained on 3 channel.s. and cat, dog"):
        load_scored(
            "digits",
            ("cat", "dog"),
            channels=3,
            image_size=8,
            data_dir=tmp_path,
            skip_unreadable=False,
        )


def test_a_class_is_known_in_the_spelling_of_another_system(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    folder = images(tmp_path, f"{decomposed}/0.png", "zoo/0.png", "zoo/1.png")
    found = load_scored(
        f"folder:{folder}",
        ("zoo", composed),
        channels=3,
        image_size=8,
        data_dir=tmp_path / "data",
        skip_unreadable=False,
    )
    assert found.images.labels.tolist() == [1, 0, 0]
    assert not any("no image of" in note for note in found.notes)
