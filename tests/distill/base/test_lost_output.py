"""A result that could not be printed is told, and fails; progress that could not be is let go."""

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import ROOT
from tests.nodes import FULL, device, small_disk

BASELINE = str(ROOT / "results/baseline/memory.json")
LOST = "Error: Cannot write to standard output (No space left on device). Make room"


def compare(
    *arguments: str,
    stdout: IO[str] | int = subprocess.PIPE,
    stderr: IO[str] | int = subprocess.PIPE,
) -> "subprocess.CompletedProcess[str]":
    """A command that prints a result and loads little, as a process of its own."""
    command = [sys.executable, "-m", "bench", "compare", BASELINE, BASELINE, *arguments]
    return subprocess.run(
        command, cwd=ROOT, stdout=stdout, stderr=stderr, text=True, timeout=60, check=False
    )


def test_a_result_on_a_full_device_is_lost_aloud(tmp_path: Path) -> None:
    with device(tmp_path / "full", FULL).open("w") as stream:
        child = compare(stdout=stream)
    assert child.returncode == 1
    assert child.stderr.startswith(LOST) and child.stderr.count("\n") == 1


def test_a_result_on_a_full_disk_is_lost_aloud(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "disk")
    with (disk / "stdout").open("w") as stream:
        stream.write("x" * 65_536)
        stream.flush()
        child = compare("--json", stdout=stream)
    assert child.returncode == 1 and child.stderr.startswith(LOST)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_that_is_lost_is_told_too(tmp_path: Path, arguments: list[str]) -> None:
    with device(tmp_path / "full", FULL).open("w") as stream:
        child = subprocess.run(
            [sys.executable, "-m", "bench", *arguments],
            cwd=ROOT, stdout=stream, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert child.returncode == 1 and child.stderr.startswith(LOST)


def test_progress_that_is_lost_fails_nothing(tmp_path: Path) -> None:
    with device(tmp_path / "full", FULL).open("w") as stream:
        child = compare("--json", stderr=stream)
        assert child.returncode == 0 and '"exit_code": 0' in child.stdout
        assert compare("--surprise", stderr=stream).returncode == 2


def test_a_reader_that_went_away_is_no_failure_to_tell(tmp_path: Path) -> None:
    whole = f"{sys.executable} -m bench compare {BASELINE} {BASELINE} --json | true"
    child = subprocess.run(whole, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.stderr == ""
