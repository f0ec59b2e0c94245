"""The entry point looks first only where a command writes or wants a GPU."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

Start = Callable[..., "subprocess.CompletedProcess[str]"]
CURE = "no GPU is visible"
PROGRAM = '#!/bin/sh\necho "ran $(basename "$0") $*"\n'
DOCTOR = f'#!/bin/sh\n[ "$*" = "-m bench doctor --brief" ] && echo "{CURE}" >&2\nexit 9\n'


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run the entry point among programs that only say how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"bench": PROGRAM, "distill": PROGRAM, "python": DOCTOR}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for folder in ("profiles", "results"):
        (tmp_path / folder).mkdir()

    def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ROOT / "docker" / "entrypoint", *words],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    "words",
    [
        "bench probe --vram 6",
        "bench verify p.json",
        "bench evidence --minutes 1",
        "distill run",
        "distill attention results/from_scratch/digits",
    ],
)
def test_what_wants_a_gpu_names_the_cure_first_and_goes_on(start: Start, words: str) -> None:
    done = start(*words.split())
    assert done.stderr == f"{CURE}\n"
    assert done.stdout == f"ran {words}\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        "bench --help",
        "bench probe --help",
        "distill run -h",
        "bench --version",
        "bench predict --stage teacher",
        "bench compare",
        "bench probe --vram 6 --device predict",
        "bench probe --device=cpu --vram 6",
        "distill run --device cpu",
        "bench evidence --dry-run",
    ],
)
def test_what_needs_no_gpu_costs_no_check(start: Start, words: str) -> None:
    done = start(*words.split())
    assert (done.stdout, done.stderr) == (f"ran {words}\n", "")


def test_services_without_a_gpu_ask_for_none(start: Start) -> None:
    done = start("bench", "probe", "--vram", "6", NVIDIA_VISIBLE_DEVICES="void")
    assert (done.stdout, done.stderr) == ("ran bench probe --vram 6\n", "")


@pytest.mark.parametrize("words", [(), ("sh",), ("python", "-c", "1")])
def test_anything_else_is_refused_in_one_sentence(start: Start, words: tuple[str, ...]) -> None:
    done = start(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
