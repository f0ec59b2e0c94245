"""An edit throws away what depends on it, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ASK = (
    "from bench.trials.digests import measurement_digest, prediction_digest\n"
    "from distill.device.fingerprint import step_digest\n"
    "print(step_digest(), prediction_digest(), measurement_digest())\n"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages where they may be edited."""
    folder = tmp_path_factory.mktemp("source")
    for package in ("bench", "distill"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def digests(folder: Path) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    child = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "step", "prediction", "measurement"),
    [
        ("distill/report/curves.py", True, True, True),
        ("distill/train/loop.py", True, True, True),
        ("bench/probe/grid_tables.py", True, True, True),
        ("bench/measure/meter.py", True, True, False),
        ("bench/simulate/kernels/attention.py", True, False, True),
        ("distill/step/losses.py", False, False, False),
        ("distill/spec/pins.py", False, False, False),
        ("distill/data/batches.py", False, False, False),
    ],
)
def test_what_an_edit_leaves_valid(
    copy: Path, file: str, step: bool, prediction: bool, measurement: bool
) -> None:
    before = digests(copy)
    path = copy / file
    text = path.read_text()
    try:
        path.write_text(text + "\n# edited\n")
        after = digests(copy)
    finally:
        path.write_text(text)
    same = [one == other for one, other in zip(before, after, strict=True)]
    assert same == [step, prediction, measurement]


def test_a_module_that_moves_is_another_source(copy: Path) -> None:
    before = digests(copy)
    kernels = copy / "bench" / "simulate" / "kernels"
    (kernels / "row.py").rename(kernels / "line.py")
    after = digests(copy)
    (kernels / "line.py").rename(kernels / "row.py")
    assert before[1] != after[1]
