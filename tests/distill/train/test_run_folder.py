"""A run's small files are read as what they are, or refused in one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from distill.cli.main import main
from distill.train.run_folder import StageFolder, read_config, read_manifest, read_result
from tests.conftest import ROOT
from tests.nodes import FULL, device, loop, pipe, within

CONFIG = "teacher/logs/vit_tiny_teacher_config.json"
RESULT = "teacher/result.json"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of an earlier version."""
    shutil.copytree(ROOT / "tests/old_files/run", tmp_path / "run")
    return tmp_path / "run"


def test_files_of_an_earlier_version_are_read(run: Path) -> None:
    folder = StageFolder(run / "teacher", "vit_tiny_teacher")
    result = read_result(folder)
    assert result is not None and result.best_epoch == 1
    assert read_config(folder).candidate.stage == "teacher"
    assert read_manifest(run).threads == 2


def test_the_tables_say_what_is_not_finished(run: Path) -> None:
    result = CliRunner().invoke(main, ["tables", str(run)])
    assert "Not finished: student. Go on with distill run." in result.stdout


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (RESULT, lambda d: d.pop("epochs"), "epochs is missing"),
        (RESULT, lambda d: d.update(surprise=1), "surprise is not a known key"),
        (RESULT, lambda d: d.update(epochs=-1), "epochs = -1 is not possible"),
        (RESULT, lambda d: d.update(epochs="2"), "epochs = '2' is not possible"),
        (RESULT, lambda d: d.update(test_accuracy=1.5), "test_accuracy = 1.5 is not possible"),
        (RESULT, lambda d: d.update(test_accuracy=None), "test_accuracy = None is not possible"),
        (RESULT, lambda d: d.update(checkpoint="../../mine.pth"), "checkpoint = '../../mine.pth'"),
        (RESULT, lambda d: d.update(epochs=10**400), "epochs = 1000"),
        (CONFIG, lambda d: d.pop("candidate"), "candidate is missing"),
        (CONFIG, lambda d: d.update(candidate=None), "candidate = None is not possible"),
        (CONFIG, lambda d: d["candidate"].update(micro_batch=-1), "candidate.micro_batch = -1"),
        (CONFIG, lambda d: d["candidate"].update(precision="fp8"), "precision = 'fp8'"),
        (CONFIG, lambda d: d.update(pins=[]), "pins = [] is not possible"),
        ("run.json", lambda d: d.pop("values"), "values is missing"),
        ("run.json", lambda d: d.update(values=[]), "values = [] is not possible"),
        ("run.json", lambda d: d["values"].pop("stage"), "stage is missing"),
        ("run.json", lambda d: d.update(threads="two"), "threads = 'two' is not possible"),
        ("run.json", lambda d: d.update(data={"classes": None}), "data.classes"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    run: Path, file: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    document = json.loads((run / file).read_text())
    change(document)
    (run / file).write_text(json.dumps(document))
    result = CliRunner().invoke(main, ["tables", str(run)])
    assert result.exit_code == 2, result.output
    assert words in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize("file", [RESULT, CONFIG, "run.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 1000, b"9" * 5000])
def test_what_is_no_document_is_one_sentence(run: Path, file: str, content: bytes) -> None:
    (run / file).write_bytes(content)
    result = CliRunner().invoke(main, ["tables", str(run)])
    assert result.exit_code == 2 and "--fresh" in result.output and file in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("file", [RESULT, CONFIG, "run.json"])
def test_what_is_no_file_is_not_waited_for(run: Path, file: str) -> None:
    def full(path: Path) -> Path:
        return device(path, FULL)

    for make in (pipe, loop, full):
        (run / file).unlink()
        make(run / file)
        with within(10):
            result = CliRunner().invoke(main, ["tables", str(run)])
        assert result.exit_code == 2 and result.output.count("\n") == 1


def test_a_run_by_an_impossible_name_is_one_sentence() -> None:
    result = CliRunner().invoke(main, ["tables", "n" * 3000])
    assert result.exit_code == 2 and "File name too long" in result.output
    assert len(result.output) < 600
