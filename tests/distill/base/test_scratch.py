"""Temporary folders of killed processes are deleted by the next, those in use are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.base import scratch
from distill.base.scratch import scratch_folder
from tests.conftest import ROOT

HOLDER = """
import time
from distill.base.scratch import scratch_folder

with scratch_folder("kind") as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_deleted_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "JUST_MADE_SECONDS", -1.0)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, used = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
    holders[0].kill()
    holders[0].wait()
    (tmp_path / "other-kind").mkdir()
    with scratch_folder("kind") as own:
        assert sorted(tmp_path.iterdir()) == sorted([used, own, tmp_path / "other-kind"])
        assert not killed.exists()
    assert not own.exists()
    holders[1].kill()
    holders[1].communicate()
    holders[0].communicate()
