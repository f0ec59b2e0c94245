"""`distill init`: from an empty folder and some images to a model that is trained."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from distill.cli.main import main
from distill.spec.recipe import load_recipe
from tests.conftest import ROOT, Command


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes that a colour tells apart, as photos of a camera would lie there."""
    for label, colour in (("cat", "orange"), ("dog", "brown")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            path = tmp_path / "photos" / label / f"{number}.jpg"
            Image.new("RGB", (120 + number, 90), colour).save(path)
    return tmp_path / "photos"


def answered(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], *lines: str) -> str:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["init", *words], input="".join(f"{line}\n" for line in lines))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_the_demos_recipe_anew_is_read_by_predict_and_trains(
    command: Command, tmp_path: Path
) -> None:
    words = ("--dataset", "digits", "--epochs", "1", "--model", "assistant=none")
    made = command("distill", "init", "small.toml", *words)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"Next: \S*distill run --recipe small.toml", made.stdout.splitlines()[-2])
    words = ("--stage", "student", "--batch-size", "8", "--recipe", "small.toml")
    assert "fits in" in command("bench", "predict", *words).stdout
    trained = command("distill", "run", "--recipe", "small.toml", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    assert "accuracy.md" in trained.stdout
    accuracy = (tmp_path / "results" / "from_scratch" / "digits" / "accuracy.md").read_text()
    assert all(stage in accuracy for stage in ("teacher", "student"))


@pytest.mark.slow
def test_a_folder_of_photos_becomes_a_trained_model(command: Command, photos: Path) -> None:
    words = ("--from", "demo", "--model", "assistant=none", "--epochs", "1")
    made = command("distill", "init", "--dataset", "photos", *words)
    assert made.returncode == 0, made.stderr
    assert "2 classes (cat, dog), 28 images to train on, about 90 pixels wide" in made.stdout
    trained = command("distill", "run", "--recipe", "photos.toml", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    assert "small pictures" not in trained.stderr + made.stderr


def test_what_no_option_says_is_asked_for_until_it_can_be(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["fotos", "photos", "demmo", "demo", "", "none", "resnet10tt", "resnet10t"]
    said = answered(photos.parent, monkeypatch, ["--ask"], *answers, "48", "many", "2")
    assert "Unknown data set 'fotos'. Did you mean folder:photos?" in said
    assert "Unknown recipe 'demmo'. Did you mean demo?" in said
    assert "timm has no model 'resnet10tt'. Did you mean resnet10t" in said
    assert "'many' is no number between 1 and 100,000" in said
    recipe = load_recipe(str(photos.parent / "photos.toml"))
    assert [(s.name, s.model.name, s.taught_by) for s in recipe.stage] == [
        ("teacher", "vit_tiny_patch16_224", None),
        ("student", "resnet10t", "teacher"),
    ]
    assert (recipe.dataset, recipe.image_size) == (f"folder:{photos}", 48)
    assert recipe.training.epochs == 2


def test_options_are_not_asked_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--dataset", str(photos), "--from", "demo", "--epochs", "3", "--image-size", "32"]
    said = answered(photos.parent, monkeypatch, [*options, "--ask", "own.toml"], "", "", "")
    assert said.count("by timm name") == 3
    assert "Pixels" not in said and "Epochs" not in said
    assert load_recipe(str(photos.parent / "own.toml")).training.epochs == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say which images: --dataset DIR"),
        (("--dataset", "pathmist"), "Did you mean pathmnist"),
        (("--dataset", "digits", "--from", "dmo"), "Unknown recipe 'dmo'. Did you mean demo?"),
        (("--dataset", "digits", "--model", "student=resnet81"), "timm has no model 'resnet81'"),
        (("--dataset", "digits", "--model", "pupil=resnet18"), "'pupil' is no stage"),
        (("--dataset", "digits", "--pretrained"), "those of recipe demo have another"),
        (("there.toml", "--dataset", "digits"), "there.toml is there"),
        (("recipe.json", "--dataset", "digits"), "ends in .toml: recipe.json.toml"),
        (("nowhere/own.toml", "--dataset", "photos"), "Unknown data set 'photos'"),
        (("--dataset", "digits", "--model", "student=vit_tiny"), "take images of 8 px"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.toml").write_text("mine")
    done = CliRunner().invoke(main, ["init", *words])
    assert done.exit_code == 2
    assert sentence in done.output
    assert (tmp_path / "there.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]


@pytest.mark.slow
def test_on_a_terminal_it_asks_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "distill", "init"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_takes_the_terminal,
    )
    os.close(theirs)
    assert re.search("Your images", _until(ours, "Your images", 120))
    os.write(ours, b"\x03")
    assert child.wait(60) != 0
    assert "Traceback" not in _until(ours, "never", 1)
    assert not list(tmp_path.iterdir())
    os.close(ours)


def _takes_the_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until(terminal: int, words: str, seconds: float) -> str:
    """What a terminal shows, up to the words or the end."""
    said, end = "", time.monotonic() + seconds
    while words not in said and time.monotonic() < end:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            said += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other side is closed
            break
    return said
