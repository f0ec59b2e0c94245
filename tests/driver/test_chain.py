"""A chain in one process takes in every stage what is predicted for a fresh process.

`distill run` as a user starts it, on PyTorch's own CUDA code under the driver that computes
nothing; an epoch's last update is smaller than the others.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.simulate.predictor import Predictor
from distill.spec.profile import Profile, read_profile, write_profile
from tests.conftest import ROOT
from tests.driver.build import environment

pytestmark = pytest.mark.slow

DEMO = ROOT / "profiles" / "demo-6gb.json"


class Chain:
    """The demo chain for one epoch, in a folder, on a card as the profile assumes it."""

    def __init__(self, library: Path, folder: Path, profile_path: Path = DEMO) -> None:
        self.profile = read_profile(profile_path)
        self.folder = folder / "results" / "from_scratch" / "digits"
        self.command = [
            *(sys.executable, "-m", "distill", "run", "--recipe", "demo", "--epochs", "1"),
            *("--warmup-epochs", "0", "--profile", str(profile_path), "--device", "cuda"),
        ]
        self.options = {
            "env": environment(library, self.profile.target.total_bytes, finite=True),
            "cwd": folder,
            "text": True,
        }

    def run(self) -> str:
        child = subprocess.run(
            self.command, capture_output=True, check=False, timeout=300, **self.options
        )
        assert child.returncode == 0, child.stderr[-3000:]
        return child.stderr

    def stop_in(self, stage: str) -> None:
        """Start, and ask it to stop as soon as the stage trains."""
        with subprocess.Popen(self.command, stderr=subprocess.PIPE, **self.options) as child:
            assert child.stderr is not None
            for line in child.stderr:
                if line.startswith(f"  {stage}  ") and "images an update" in line:
                    child.send_signal(signal.SIGTERM)
        assert child.returncode == 143

    def peaks(self) -> dict[str, int]:
        found = [json.loads(path.read_text()) for path in self.folder.glob("*/result.json")]
        return {result["stage"]: result["peak_reserved_bytes"] for result in found}


def predicted(profile: Profile) -> dict[str, int]:
    return {choice.stage: sum(choice.breakdown.values()) for choice in profile.choices}


def is_the_largest_that_fits(profile: Profile, batch: int, limit_bytes: int) -> bool:
    """Of those that cut an update of 64 images into equal parts."""
    teacher = next(choice.candidate for choice in profile.choices if choice.stage == "teacher")
    predictor = Predictor(profile.target, profile.allocator)
    needs = [
        predictor.predict(teacher.with_batch(size, teacher.effective_batch)).safe_bytes
        for size in (batch, 2 * batch)
    ]
    return 64 % batch == 0 and needs[0] <= limit_bytes < needs[1]


@pytest.mark.slow
def test_every_stage_reserves_what_is_predicted(library: Path, tmp_path: Path) -> None:
    chain = Chain(library, tmp_path)
    chain.run()
    assert chain.peaks() == predicted(chain.profile)


@pytest.mark.slow
def test_so_it_does_when_it_goes_on_in_the_middle(library: Path, tmp_path: Path) -> None:
    chain = Chain(library, tmp_path)
    chain.stop_in("assistant")
    assert set(chain.peaks()) == {"teacher"}
    chain.run()
    assert chain.peaks() == predicted(chain.profile)


@pytest.mark.slow
def test_memory_ends_once_and_the_stages_after_that_take_what_is_predicted(
    library: Path, tmp_path: Path
) -> None:
    demo = read_profile(DEMO)
    needs = predicted(demo)
    limit_bytes = (needs["teacher"] + needs["assistant"]) // 2
    margin_bytes = demo.budget.margin_bytes + demo.budget.limit_bytes - limit_bytes
    update = {"limit_bytes": limit_bytes, "margin_bytes": margin_bytes}
    budget = demo.budget.model_copy(update=update)
    write_profile(tmp_path / "small.json", demo.model_copy(update={"budget": budget}))
    chain = Chain(library, tmp_path, tmp_path / "small.json")
    said = chain.run().lower()
    assert said.count("out of memory") == 1
    batch = int(re.search(r"from here on (\d+) ×", said)[1])
    assert 1 < batch < 64 and is_the_largest_that_fits(demo, batch, limit_bytes)
    peaks = chain.peaks()
    assert peaks.pop("teacher") <= limit_bytes
    assert peaks == {stage: needs[stage] for stage in ("assistant", "student")}
