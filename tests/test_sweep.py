"""The sweep of the page on recipes, as it stands there, with Optuna."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_sweep_on_the_page_runs_and_finds_a_learning_rate(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="make setup installs optuna, which this test sweeps with")
    page = (ROOT / "docs" / "recipes.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    shorter = program.replace("n_trials=20", "n_trials=2").replace("--epochs 3", "--epochs 1")
    assert len(shorter) < len(program)
    (tmp_path / "sweep.py").write_text(shorter)
    folders = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    paths = {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run(
        [sys.executable, "sweep.py"], cwd=tmp_path, env=os.environ | folders | paths,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"\{'lr': 0\.00\d+\}", ended.stdout.strip().splitlines()[-1])
    assert len(list(tmp_path.glob("results/sweep/[01]/**/teacher/result.json"))) == 2
