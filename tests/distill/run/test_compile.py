"""`distill run --compile blocks`: the same training, its compiling told; with `cheap` refused."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open

from distill.cli.main import main
from distill.step import compiled

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


def run(recipe: Path, out: Path, *more: str) -> Result:
    arguments = ("--stage", "teacher", "--device", "cpu", "--threads", "1", "--epochs", "2")
    where = ("--recipe", str(recipe), "--out", str(out))
    return CliRunner().invoke(main, ["run", *where, *arguments, *more])


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_says_what_was_compiled(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are captured and differentiated; Inductor, which takes minutes here, is left out."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    folders = []
    for name, options in (("plain", ()), ("compiled", ("--compile", "blocks"))):
        result = run(recipe_file, tmp_path / name, *options)
        assert result.exit_code == 0, result.output
        (done,) = (tmp_path / name).rglob("result.json")
        folders.append(done.parent)
    assert result.stderr.count("graph(s) of blocks in ") == 1  # in the first of two epochs
    plain, other = (json.loads((folder / "result.json").read_text()) for folder in folders)
    assert plain["test_accuracy"] == pytest.approx(other["test_accuracy"], abs=0.02)
    assert keys_in(folders[0]) == keys_in(folders[1])


def keys_in(folder: Path) -> list[str]:
    (best,) = folder.rglob("*.safetensors")
    with safe_open(best, "pt") as tensors:
        return sorted(tensors.keys())


def test_with_cheap_it_is_refused_before_anything_is_written(
    recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(recipe_file, out, "--compile", "blocks", "--checkpointing", "cheap")
    assert result.exit_code == 2
    assert "Stage teacher has checkpointing cheap, which keeps" in result.stderr
    assert not [path for path in out.rglob("*") if path.is_file()]
