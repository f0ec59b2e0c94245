"""`distill predict` asks a stage about images as it was asked in its test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from distill.base.errors import UserError
from distill.cli.main import main
from distill.data.given_images import find_images, read_images
from distill.data.load import load_dataset
from distill.report.export import _preprocessing
from distill.report.found_run import find_run
from distill.report.stage_test import ask_stage
from distill.spec.recipe import load_recipe
from distill.step.models import Normalisation
from tests.conftest import ROOT

RUN = ROOT / "tests" / "old_files" / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(RUN, tmp_path_factory.mktemp("run") / "digits")


def predict(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["predict", *map(str, words), "--device", "cpu"])
    return done.exit_code, done.output


def test_probabilities_are_those_of_the_test(run: Path, tmp_path: Path) -> None:
    test = load_dataset("digits", 8, tmp_path).test.take(np.arange(3))
    for place, pixels in enumerate(test.images_at(np.arange(3))):
        Image.fromarray(pixels[0]).save(tmp_path / f"{place}.png")
    found = find_run(run)
    tally = ask_stage(found, found.results("teacher")[0], test, torch.device("cpu"), auc=False)
    expected = torch.cat(tally.logits).softmax(dim=1)
    code, text = predict(run, tmp_path, "--stage", "teacher", "--json")
    assert code == 0
    document = json.loads(text)
    assert (document["stage"], document["several_labels"]) == ("teacher", False)
    assert [Path(one["image"]).name for one in document["images"]] == ["0.png", "1.png", "2.png"]
    for one, row in zip(document["images"], expected, strict=True):
        given = {answer["class"]: answer["probability"] for answer in one["classes"]}
        assert [given[str(number)] for number in range(10)] == pytest.approx(row.tolist())
        assert list(given.values()) == sorted(given.values(), reverse=True)


def test_a_table_has_the_likeliest_classes_of_each_image(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    code, text = predict(run, tmp_path / "red.png", tmp_path / "red.png", "--stage", "assistant")
    lines = text.splitlines()
    assert code == 0 and lines[0].split() == ["image", "class", "probability", "%"]
    assert [line.startswith(str(tmp_path)) for line in lines[2:]] == [True, False, False] * 2
    assert len(predict(run, tmp_path, "--top", "1", "--stage", "teacher")[1].splitlines()) == 3


def test_what_can_not_be_asked_is_one_sentence(run: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    picture = tmp_path / "a.png"
    for words, sentence in {
        (run,): "Name at least one image",
        (run, picture): "Stage student of",
        (picture, picture): "is not a run's folder",
        (run, tmp_path / "b.png", "--stage", "teacher"): "There is no image or folder",
        (run, tmp_path / "empty", "--stage", "teacher"): "holds no image",
        (run, tmp_path / "text.png", "--stage", "teacher"): "Cannot read",
        (run, tmp_path, tmp_path / "text.png", "--stage", "teacher"): "Cannot read 2 of 3 images",
    }.items():
        code, text = predict(*words)
        assert (code, sentence in text, text.count("Error: ")) == (2, True, 1), text


def test_images_are_fitted_to_the_size_in_which_those_of_the_training_lie(tmp_path: Path) -> None:
    """CIFAR's lie in 32 px and are resized to the model's: so does a photo, in two steps."""
    Image.new("RGB", (40, 60), "white").save(tmp_path / "photo.jpg")
    assert read_images([tmp_path / "photo.jpg"], 32, 3).shape == (1, 3, 32, 32)
    half = Normalisation((0.5,) * 3, (0.5,) * 3)
    steps = _preprocessing(load_recipe("cifar10").candidate("student", micro_batch=1), half)
    assert [(step["step"], step.get("size")) for step in steps[:2]] == [
        ("fit", 32),
        ("resize", 224),
    ]


def test_grey_of_more_than_8_bits_is_scaled_alike_in_all_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"dark": 1023, "light": 4095}.items():
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"{name}.png")
    files = find_images([tmp_path], most=2)
    assert read_images(files, 4, 1)[:, 0, 0, 0].tolist() == [64, 255]
    assert "values from 1,023 to 4,095, read as 12 bits" in capsys.readouterr().err
    with pytest.raises(UserError, match="These are 2 images; name at most 1 at a time"):
        find_images([tmp_path], most=1)
