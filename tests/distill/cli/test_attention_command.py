"""`distill attention` on a run of an earlier version, and what a new run draws by itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.cli.run_argument import run_and_images
from tests.conftest import ROOT, Command
from tests.forked import forked

RUN = ROOT / "tests" / "old_files" / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(RUN, tmp_path_factory.mktemp("run") / "digits")


@pytest.fixture(scope="module")
def photos(run: Path) -> Path:
    folder = run.parent / "photos"
    folder.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def attention(run: Path, *words: str | Path) -> tuple[int, str, set[str]]:
    """The exit code, what was said, and the names of the files that it says it wrote."""
    done = forked("distill", "attention", run, "--device", "cpu", *words, cwd=run.parent)
    written = [Path(line.removeprefix("Wrote ")) for line in done.stdout.splitlines()]
    assert all(path.stat().st_size > 5_000 for path in written)
    return done.returncode, done.stderr, {str(path.relative_to(run.parent)) for path in written}


def test_an_old_run_is_drawn_stage_by_stage_and_side_by_side(run: Path) -> None:
    code, said, written = attention(run)
    assert (code, said) == (0, "")
    assert written == {
        "digits/teacher/visualizations/attention_maps_rollout.png",
        "digits/teacher/visualizations/attention_maps_heads.png",
        "digits/assistant/visualizations/attention_maps_rollout.png",
        "digits/assistant/visualizations/attention_maps_heads.png",
        "digits/attention_maps_compared.png",
    }


@pytest.mark.slow
def test_images_of_ones_own_heads_and_blocks(run: Path, photos: Path) -> None:
    out = run.parent / "out"
    words = ("--stage", "teacher", "--out", out, "--images", photos / "0.png", photos / "1.png")
    assert attention(run, *words, "--head", "1") == (
        *(0, ""),
        {"out/attention_maps_block1_head1.png"},
    )
    assert attention(run, *words, "--layer", "0")[2] == {
        "out/attention_maps_block0_heads.png",
        "out/attention_maps_block0_heads_2.png",
    }
    assert attention(run, "--images", photos, "--rollout", "--out", out)[2] == {
        *(f"out/{stage}/attention_maps_rollout.png" for stage in ("teacher", "assistant")),
        *(f"out/{stage}/attention_maps_rollout_2.png" for stage in ("teacher", "assistant")),
        *("out/attention_maps_compared.png", "out/attention_maps_compared_2.png"),
    }


def test_what_can_not_be_drawn_is_one_sentence(run: Path, photos: Path) -> None:
    (photos / "empty").mkdir()
    (run.parent / "text.png").write_text("no image")
    one = ("--stage", "teacher")
    for words, sentence in {
        (*one, "--layer", "2"): "There is no block 2: there are blocks 0 to 1.",
        (*one, "--head", "2"): "There is no head 2: there are heads 0 to 1.",
        ("--head", "2"): "No stage of",
        ("--head", "0", "--rollout"): "Give one of --head and --rollout, not both.",
        ("--rollout", "--layer", "1"): "--rollout is over all blocks: leave out --layer.",
        ("--stage", "student"): "Stage student of",
        ("--images", "nowhere.png"): "There is no image or folder nowhere.png",
        ("--images", str(photos / "empty")): "holds no image",
        ("--images", "text.png"): "Cannot read text.png",
        ("--out", "text.png"): "Cannot write to text.png",
        ("--images", str(photos), "--out", str(photos / "seen")): "would be taken for images",
    }.items():
        code, said, written = attention(run, *words)
        assert (code, sentence in said, written) == (2, True, set()), said


def test_the_places_of_a_command_line_are_the_run_and_images(tmp_path: Path) -> None:
    run, a, b = tmp_path / "run", Path("a.png"), Path("b.png")
    run.mkdir()
    (run / "run.json").touch()
    assert run_and_images([], []) == (None, ())
    assert run_and_images([run], [a]) == (run, (a,))
    assert run_and_images([run, b], [a]) == (run, (a, b))  # RUN --images *.png
    assert run_and_images([b], [a]) == (None, (a, b))  # --images *.png
    assert run_and_images([Path("results")], []) == (Path("results"), ())


@pytest.mark.slow
def test_a_chain_draws_its_stages_side_by_side_too_and_without_attention_nothing(
    recipe_file: Path, command: Command, tmp_path: Path
) -> None:
    """The stage in the middle has no attention, which it says; scores don't know of pictures."""
    text = recipe_file.read_text()
    line = next(line for line in text.splitlines() if "depth = 2, width = 16" in line)
    recipe_file.write_text(text.replace(line, 'model = { name = "test_resnet" }'))
    words = ("distill", "run", "--recipe", str(recipe_file), "--device", "cpu", "--epochs", "1")
    drawn = command(*words, "--out", "drawn")
    plain = command(*words, "--out", "plain", "--stage", "teacher", "--no-attention")
    assert (drawn.returncode, plain.returncode) == (0, 0), drawn.stderr + plain.stderr
    assert "  assistant  draws no attention maps: ResNet has no attention." in drawn.stderr
    run = tmp_path / "drawn" / "from_scratch" / "digits"
    assert {str(path.relative_to(run)) for path in run.rglob("attention_maps_*")} == {
        *(f"teacher/visualizations/attention_maps_{what}.png" for what in ("heads", "rollout")),
        *(f"student/visualizations/attention_maps_{what}.png" for what in ("heads", "rollout")),
        "attention_maps_compared.png",
    }
    assert not list((tmp_path / "plain").rglob("*attention*"))
    scores = [
        {key: value for key, value in json.loads(path.read_text()).items() if "seconds" not in key}
        for path in sorted(tmp_path.rglob("teacher/result.json"))
    ]
    assert scores[0] == scores[1]
