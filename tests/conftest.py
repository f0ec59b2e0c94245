"""What tests share: a small model, a small recipe, and the commands as a user starts them."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.spec.candidate import Candidate, InputSpec, ModelSpec
from tests.forked import ROOT, forked

# Before torch is loaded, here and in every process that a test starts: the models are so small that
# threads only wait for each other, spinning, on cores that another worker needs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

RECIPE = """
name = "small"
about = "three very small ViTs on digits"
dataset = "digits"
image_size = 8
pretrained = false
seed = 0

[training]
epochs = 2
effective_batch = 64
learning_rate = 2e-3
clip_norm = 1.0

[augmentation]
crop_padding = 1

[[stage]]
name = "teacher"
model = { name = "vit_tiny_patch16_224", patch_size = 2, depth = 2, width = 32, heads = 2 }

[[stage]]
name = "assistant"
model = { name = "vit_tiny_patch16_224", patch_size = 2, depth = 2, width = 16, heads = 2 }
taught_by = "teacher"

[[stage]]
name = "student"
model = { name = "vit_tiny_patch16_224", patch_size = 4, depth = 1, width = 16, heads = 1 }
taught_by = "assistant"
"""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


SLOW_FIXTURES = {"both", "clean", "compared", "findings", "predicted", "probed", "gathered"}
"""Fixtures of a module that take more than a second: whatever needs one is slow."""


LONGEST = (
    "tests/bench/test_cli.py",
    "tests/driver/test_against_torch.py",
    "tests/bench/evidence/test_card_recordings.py",
    "tests/driver/test_user_steps.py",
    "tests/bench/simulate/test_predictor.py",
    "tests/bench/simulate/trace/test_caching_fake_mode.py",
    "tests/distill/train/test_out_of_memory.py",
    "tests/bench/simulate/trace/test_tracer.py",
    "tests/bench/evidence/test_evidence.py",
)
"""Files that take more than 50 seconds, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a slow fixture, and begin with the longest files.

    A worker takes a whole file, so that a long one at the end would keep the others waiting.
    """
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    place = {ROOT / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is traced once serves every test of this run and its workers, and no other run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def workers_are_forked() -> Iterator[None]:
    """Processes that share out predictions need not load torch again; where that is no matter."""
    context = multiprocessing.get_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method=None: context("fork"))
        yield


@pytest.fixture(autouse=True)
def sight_of_devices() -> Iterator[None]:
    """A prediction hides the GPU from the rest of its test, not from the tests after it."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if before is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = before


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe that trains in seconds."""
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def small_candidate() -> Candidate:
    """A student with a teacher, small enough to run thousands of times."""
    return Candidate(
        stage="student",
        student=_model(width=16, depth=2),
        teacher=_model(width=32, depth=2),
        input=InputSpec(source_size=8, crop_padding=1, flip=True),
        micro_batch=4,
        precision="fp32",
        implementation="foreach",
        clip_norm=True,
    )


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `bench …` or `distill …` in an empty folder, in a process that has torch loaded."""
    return command_in(tmp_path)


def command_in(folder: Path) -> Command:
    """Run `bench …` or `distill …` in that folder, in a process that has torch loaded."""

    def run(
        *arguments: str, timeout: float = 300, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        there = os.environ | environment
        return forked(*arguments, cwd=folder, environment=there, timeout=timeout)

    return run


def fresh_command_in(folder: Path) -> Command:
    """Run `python -m bench …` or `python -m distill …` in that folder, just as a user would."""

    def run(
        *arguments: str, timeout: float = 300, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def _model(*, width: int, depth: int) -> ModelSpec:
    return ModelSpec(
        name="vit_tiny_patch16_224",
        classes=10,
        image_size=8,
        channels=1,
        patch_size=2,
        depth=depth,
        width=width,
        heads=2,
    )


@dataclass
class CudaBoundary:
    """What PyTorch's own Python would have asked of the driver: a card that answers the same.

    The functions of `torch.cuda` above it are the real ones, with their checks of arguments.
    """

    total_bytes: int = 8 * 2**30
    free_bytes: int = 7 * 2**30
    fractions: list[tuple[float, int]] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def cuda_boundary(monkeypatch: pytest.MonkeyPatch) -> CudaBoundary:
    """The boundary in the place of a driver, where there is none."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a driver here")
    there = CudaBoundary()
    properties = SimpleNamespace(total_memory=there.total_bytes, uuid="0000", name="A card")
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device=None: (there.free_bytes, there.total_bytes)
    )
    monkeypatch.setattr(torch.cuda.memory, "memory_stats", lambda device=None: there.stats)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device=None: there.stats)
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", lambda device: None, raising=False)
    monkeypatch.setattr(
        torch._C,
        "_cuda_setMemoryFraction",
        lambda fraction, device: there.fractions.append((fraction, device)),
        raising=False,
    )
    return there
