"""The script for Slurm in docs/scale.md, under a scheduler that signals and starts it again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import RECIPE, ROOT

pytestmark = pytest.mark.slow

STAND_INS = {
    "srun": 'exec "$@"',
    "scontrol": 'case "$1" in show) echo 127.0.0.1 ;; requeue) echo "$2" >> requeued ;; esac',
}
OURS = "--recipe small.toml --stage teacher --epochs 6 --device cpu --no-attention --out shared"


def script(port: int) -> str:
    """The script as it stands in the documentation, for one process of one machine."""
    page = (ROOT / "docs" / "scale.md").read_text()
    block = re.search(r"^    #!/bin/bash\n(?:    .*\n|\n)+", page, re.MULTILINE)
    assert block is not None
    text = "".join(line.removeprefix("    ") for line in block[0].splitlines(keepends=True))
    for there, here in (
        ("--nproc-per-node 4", "--nproc-per-node 1"),
        (":29500", f":{port}"),
        ("--recipe cifar10 --out /shared/results --data-dir /shared/data", OURS),
    ):
        assert there in text
        text = text.replace(there, here)
    return text


def test_a_job_that_is_signalled_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        (tmp_path / "job.sh").write_text(script(free.getsockname()[1]))
    (tmp_path / "small.toml").write_text(RECIPE)
    for name, words in STAND_INS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{words}\n")
        program.chmod(0o755)
    job = started(tmp_path)
    checkpoints = tmp_path / "shared" / "from_scratch" / "digits" / "teacher" / "checkpoints"
    end = time.monotonic() + 300
    while not (checkpoints / "previous.pth").exists():
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)  # as --signal=B: has it, to the script alone
    _, said = job.communicate(timeout=300)
    assert (tmp_path / "requeued").read_text() == "7\n"
    assert said.count("Error: Stopped by SIGTERM. teacher is saved at epoch") == 1, said
    again = started(tmp_path)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "goes on after epoch" in said
    assert (checkpoints.parent / "result.json").exists()


def started(folder: Path) -> "subprocess.Popen[str]":
    """The job's script, as the scheduler starts it."""
    scheduler = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "one"}
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "job.sh"],
        cwd=folder,
        env=os.environ | scheduler | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
