"""Paths that are no UTF-8, and folders that may not be written in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.base.files import append_line, write_json, written_name
from tests.conftest import ROOT
from tests.forked import forked

LATIN = os.fsdecode(b"caf\xe9")


def test_a_name_that_is_no_utf_8_is_written_escaped(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    write_json(folder / "a.json", {"place": str(folder)})
    append_line(folder / "lines.jsonl", {"place": str(folder)})
    for name in ("a.json", "lines.jsonl"):
        assert json.loads((folder / name).read_text())["place"] == str(folder)
    assert written_name(folder).endswith("caf�")


@pytest.mark.slow
def test_a_run_and_its_results_may_lie_in_such_a_folder(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / LATIN
    words = ("--recipe", recipe_file, "--stage", "teacher", "--epochs", "1", "--device", "cpu")
    run = out / "from_scratch" / "digits"
    for command in (("run", *words, "--out", out), ("evaluate", run), ("tables", run)):
        done = forked("distill", *command)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere"
)
def test_a_read_only_folder_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)
    code = (
        "from pathlib import Path\nfrom distill.base.files import check_folder\n"
        f"check_folder(Path({str(shut)!r}, 'x', 'y'))"
    )
    plain = ("setpriv", "--bounding-set", "-dac_override") if os.geteuid() == 0 else ()
    child = subprocess.run(
        [*plain, sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UserError: Cannot write to" in child.stderr and "Permission denied" in child.stderr
    assert not list(shut.iterdir())
