"""What `make .env` writes, and how the lock is split into layers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

OWN = f"HOST_UID={os.getuid()}\nHOST_GID={os.getgid()}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, OWN),
        ("HF_HUB_OFFLINE=1\n", "HF_HUB_OFFLINE=1\n" + OWN),
        ("HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=1\n" + OWN),
        ("HOST_UID=7\nHOST_GID=8\n", "HOST_UID=7\nHOST_GID=8\n"),
    ],
)
def test_env_names_the_caller_and_keeps_what_was_edited(
    tmp_path: Path, before: str | None, after: str
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    if before is not None:
        (tmp_path / ".env").write_text(before)
    for _ in range(2):
        subprocess.run(["make", "-s", ".env"], cwd=tmp_path, check=True)
    assert (tmp_path / ".env").read_text() == after


def test_env_is_nothing_that_git_knows_of() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_split_lock_loses_no_package_and_no_hash(tmp_path: Path) -> None:
    lock = ROOT / "requirements.lock"
    subprocess.run([ROOT / "docker" / "split-lock", lock, tmp_path], check=True)
    torch = (tmp_path / "torch" / "hashed.txt").read_text()
    others = (tmp_path / "others" / "hashed.txt").read_text()
    assert sorted((torch + others).splitlines()) == sorted(lock.read_text().splitlines())
    names = re.findall(r"^([a-z0-9-]+)==", torch, re.MULTILINE)
    assert {"torch", "torchvision", "triton"} <= set(names)
    assert "nvidia-ml-py" not in names  # needed with another CUDA build too
    assert all(name.startswith(("torch", "triton", "nvidia", "cuda")) for name in names)
    loose = (tmp_path / "torch" / "names.txt").read_text().split()
    assert [name.split("==")[0] for name in loose] == ["torch", "torchvision"]
