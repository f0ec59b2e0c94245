"""Options that name an output: what can't be written is refused before any work is done."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main as bench
from distill.cli.main import main as distill
from tests.conftest import ROOT, Command
from tests.nodes import FULL, bound_socket, device, loop, pipe, within

PROFILE = str(ROOT / "profiles" / "rtx4050.json")
OUTPUTS = (
    (bench, ["predict", "--stage", "student", "--batch-size", "4", "--plot"]),
    (bench, ["probe", "--vram", "6", "--device", "predict", "--out"]),
    (bench, ["probe", "--vram", "6", "--device", "predict", "--results"]),
    (bench, ["evidence", "--dry-run", "--out"]),
    (bench, ["compare", "--update"]),
    (bench, ["verify"]),
    (distill, ["run", "--recipe", "demo", "--device", "cpu", "--json-log"]),
    (distill, ["run", "--recipe", "demo", "--device", "cpu", "--out"]),
    (distill, ["export", str(ROOT / "tests/old_files/run"), "--stage", "teacher", "--to"]),
    (distill, ["attention", str(ROOT / "tests/old_files/run"), "--stage", "teacher", "--out"]),
)


@pytest.mark.parametrize(("command", "words"), OUTPUTS, ids=lambda value: str(value)[-30:])
def test_what_can_not_be_written_is_refused_before_any_work(
    tmp_path: Path, command, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [loop(Path("loop.png")), bound_socket(Path("socket.png")), Path("n" * 300 + ".png")]
    places += [Path("socket.png", "below.png")]
    for place in places:
        with within(20):
            result = CliRunner().invoke(command, [*words, str(place)])
        assert result.exit_code == 2, (place, result.output, result.exception)
        assert result.output.count("Error: ") == 1 and place.parts[0] in result.output
    assert not [path for path in tmp_path.rglob("*") if not path.is_symlink() and path.is_file()]


@pytest.mark.parametrize("words", [["compare"], ["compare", "--update"], ["verify"]])
def test_a_pipe_or_device_is_no_file_to_read(tmp_path: Path, words: list[str]) -> None:
    for place in (pipe(tmp_path / "pipe"), device(tmp_path / "full", FULL)):
        with within(20):
            result = CliRunner().invoke(bench, [*words, str(place)])
        assert result.exit_code == 2 and "not a plain file" in result.output
        assert not place.is_file()


def test_a_json_log_on_a_full_device_ends_the_run_with_a_sentence(
    tmp_path: Path, recipe_file: Path, command: Command
) -> None:
    log = device(tmp_path / "full", FULL)
    child = command(
        *("distill", "run", "--recipe", str(recipe_file), "--device", "cpu"),
        *("--json-log", str(log)),
    )
    assert child.returncode == 1
    last = child.stderr.splitlines()[-1]
    assert last.startswith(f"Error: Cannot write {log} (No space left on device).")
    assert "Traceback" not in child.stderr and log.is_char_device()


@pytest.mark.slow
def test_a_json_log_may_be_standard_error(
    tmp_path: Path, recipe_file: Path, command: Command
) -> None:
    child = command(
        *("distill", "run", "--recipe", str(recipe_file), "--device", "cpu"),
        *("--stage", "teacher", "--epochs", "1", "--json-log", "/dev/stderr"),
    )
    assert child.returncode == 0, child.stderr
    assert '{"event": "stage_begins"' in child.stderr and '{"event": "stage_done"' in child.stderr
