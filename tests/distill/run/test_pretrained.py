"""Pretrained weights without a network: one sentence for the first stage, and nothing left."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from distill.cli.main import main
from distill.run.pretrained import check_fetchable


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that nobody answers for, and an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_run_is_refused_within_seconds_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "results"
    words = ["run", "--dataset", "digits", "--pretrained", "--device", "cpu", "--out", str(out)]
    began = time.monotonic()
    result = CliRunner().invoke(main, words)
    assert time.monotonic() - began < 60  # beside the imports it is five seconds at most
    assert result.exit_code == 2
    assert "The pretrained weights of teacher (vit_base_patch16_224) are not in" in result.output
    assert "--weights teacher=FILE" in result.output and "Retry" not in result.output
    assert not out.parent.exists()


def test_weights_that_are_in_the_cache_need_no_network(tmp_path: Path) -> None:
    model = "vit_tiny_patch16_224"
    name = "models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    snapshot = tmp_path / "cache" / name / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    check_fetchable("student", model)


def test_a_folder_that_cannot_be_written_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "results"
    result = CliRunner().invoke(main, ["run", "--recipe", "demo", "--out", str(out)])
    assert result.exit_code == 2 and "is not a folder" in result.output
