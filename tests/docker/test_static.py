"""`docker/check --static` passes on the files as they are and fails on each broken copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = ("Dockerfile", "compose.yaml", "docker", "requirements.lock")
(CLICK,) = re.findall(r"^click==.*\n(?: .*\n)+", (ROOT / FILES[3]).read_text(), re.MULTILINE)
PROOF = str(ROOT / "docker" / "proof")
TOOLS = ROOT / "build" / "docker-tools" / "installed.lock"

pytestmark = pytest.mark.skipif(
    not TOOLS.exists(), reason="hadolint and compose are not there; docker/check installs them"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the check looks at."""
    for name in FILES:
        source, copy = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copy(source, copy)
    return tmp_path


def check(tree: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "docker" / "check", "--static", "--tree", tree],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_passes_as_it_is(tree: Path) -> None:
    done = check(tree)
    assert done.returncode == 0, done.stderr
    assert "SKIP" not in done.stdout


def test_too_little_disk_is_one_line_and_no_failure() -> None:
    program = (
        "import engine, runpy, sys; engine.NEEDED_BYTES = 2**60; sys.argv = ['check']; "
        "runpy.run_path(sys.path[0] + '/__main__.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {PROOF!r}); {program}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SKIP")]
    assert re.search(r"lacks \d+ bytes of 1152921504606846976$", line)


BREAKS = {
    "reservation gone": ("compose.yaml", "deploy: *gpu", "labels: {}", "bench reserves []"),
    "reservation of another driver": ("compose.yaml", "driver: nvidia", "driver: amd", "reserves"),
    "reservation of every GPU": ("compose.yaml", "count: 1", "count: all", "reserves"),
    "reservation without a GPU too": (
        "compose.yaml",
        "environment: &no-gpu",
        "deploy: *gpu\n    environment: &no-gpu",
        "bench-cpu reserves",
    ),
    "schema": ("compose.yaml", "[gpu]", "gpu", "compose schema"),
    "user": ("compose.yaml", "${HOST_UID:-1000}:${HOST_GID:-1000}", "0:0", "runs as 0:0"),
    "mount": ("compose.yaml", "    - ./results:/work/results\n", "", "mounts"),
    "writable root": ("compose.yaml", "read_only: true", "read_only: false", "read_only"),
    "capabilities": ("compose.yaml", "cap_drop: [ALL]", "cap_drop: []", "cap_drop"),
    "entry point of a service": (
        "compose.yaml",
        "entrypoint: [entrypoint, distill]",
        "entrypoint: [entrypoint, bench]",
        "starts something else",
    ),
    "entry point gone": (
        "Dockerfile",
        "COPY --chmod=755 docker/entrypoint /usr/local/bin/entrypoint\n",
        "",
        "does not copy the entry point",
    ),
    "entry point runs anything": (
        "docker/entrypoint",
        "    exit 2\n    ;;",
        "    ;;",
        "ended with",
    ),
    "entry point is no shell": ("docker/entrypoint", "esac\n", "", "sh -n"),
    "instruction": ("Dockerfile", "ENTRYPOINT", "ENTRYPONT", "linters"),
    "hashes gone from the lock": ("requirements.lock", CLICK, "click==8\n", "no hash: click==8"),
    "index in the lock": ("requirements.lock", "click==", "-i https://x/\nclick==", "an index"),
    "hashes not asked for": ("Dockerfile", "--require-hashes --no-deps", "", "without hashes"),
    "frontend to fetch": ("Dockerfile", "# The CUDA", "# syntax=x\n# The CUDA", "frontend"),
    "fixed base": ("Dockerfile", "FROM ${BASE_IMAGE} AS tools", "FROM debian:12 AS tools", "FROM"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_fails_when_broken(tree: Path, name: str) -> None:
    file, old, new, symptom = BREAKS[name]
    path = tree / file
    text = path.read_text()
    assert old in text, f"{file} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))
    done = check(tree)
    assert done.returncode == 1, done.stdout
    assert symptom in done.stderr
    assert done.stderr.startswith("FAILED ")
    assert "Traceback" not in done.stderr
