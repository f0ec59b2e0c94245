"""The model against PyTorch's own CUDA code, which a stub driver lets run.

No card is imitated but for its size: which blocks and segments are taken, and what operators ask
for, is decided by the code that runs on every card. What cuDNN asks for is not seen here.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.evidence.allocator_check import check_allocator
from bench.evidence.comparison import compare_recording
from bench.evidence.recording import Recording
from bench.evidence.time_plan import PARTS
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import read_profile
from tests.driver.canary import moved_in
from tests.driver.children import under_driver
from tests.driver.recordings import (
    CANDIDATES,
    RESNET,
    TARGET,
    Request,
    candidate,
    recorded,
    run_of,
)

pytestmark = pytest.mark.slow

CUBLAS_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024


TAUGHT = candidate("student", 16, "fp16", 1)

OPTIONS = replace(
    TAUGHT,
    input=replace(TAUGHT.input, mixup=0.8, cutmix=1.0, mixed_size=224),
    patch_drop_rate=0.5,
    label_smoothing=True,
    layer_decay=True,
    soft_loss="logit_std",
)
"""What a recipe may ask for beyond the chain's own."""

RUNS: tuple[tuple[Candidate, Allocator], ...] = (*CANDIDATES, (OPTIONS, "expandable"))

RANDOM = [("random", kind, seed) for kind in ("expandable", "native") for seed in ("1", "2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def recordings(library: Path, folder: Path) -> dict[Request, Recording]:
    """All of them, from one process that loads what they need."""
    runs = [run_of(folder, *pair) for pair in (*RUNS, RESNET)]
    return recorded(library, folder, [*RANDOM, *runs])


@pytest.mark.slow
@pytest.mark.parametrize("asked", RANDOM)
def test_random_histories_are_repeated_to_the_byte(
    recordings: dict[Request, Recording], asked: Request
) -> None:
    """Every block, segment and total of thousands of requests."""
    found = recordings[asked]
    assert found.history is not None and len(found.history) > 4000
    assert check_allocator(found, TARGET.total_bytes) == []


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "allocator"), RUNS)
def test_a_training_run_takes_what_is_predicted(
    recordings: dict[Request, Recording], folder: Path, wanted: Candidate, allocator: Allocator
) -> None:
    found = compare_recording(recordings[run_of(folder, wanted, allocator)], TARGET)
    requested, _, reserved = found.recorded
    assert requested == found.predicted[0]
    if allocator == "expandable":
        assert found.errors == (0, 0, 0)
    else:  # where segments lie is the driver's to say: at most what is foreseen over their orders
        assert reserved <= found.reserved_max
    assert found.mismatches == ()
    assert found.missing is not None
    others = [row for row in found.missing if "convolution" not in row["op"]]
    assert moved_in(found, wanted.label) == []
    # without cuDNN the patch embedding is the first to take the workspace of cuBLAS
    assert [(row["request"], row["bytes"], row["times"]) for row in others] == [
        ("not recorded", f"{CUBLAS_BYTES:,}", "1")
    ]


@pytest.mark.slow
def test_a_resnet_differs_in_nothing_but_what_cudnn_makes(
    recordings: dict[Request, Recording], folder: Path
) -> None:
    """Blocks whose convolutions are kept and whose norms run again, request by request."""
    found = compare_recording(recordings[run_of(folder, *RESNET)], TARGET)
    assert found.errors[2] == 0
    assert found.mismatches == () and found.missing is not None
    others = [
        row
        for row in found.missing
        if "convolution" not in row["op"]
        and not (row["phase"] == "evaluate" and "batch_norm" in row["op"])
    ]
    assert [(row["request"], row["bytes"], row["times"]) for row in others] == [
        ("not recorded", f"{CUBLAS_BYTES:,}", "1")
    ]
    assert moved_in(found, "ResNet-18") == []


@pytest.mark.slow
def test_all_parts_of_the_evidence_are_gathered_where_there_is_a_card(
    library: Path, tmp_path: Path
) -> None:
    """Context, history, cap, control, fork server and timing through CUDA's own calls."""
    child = ["-m", "tests.driver.small_evidence", str(tmp_path)]
    parts = json.loads(under_driver(library, *child, device_bytes=16 * 2**30))
    assert {part["part"]: part["done"] for part in parts} == dict.fromkeys(PARTS, True), parts
    document = json.loads((tmp_path / "verification.json").read_text())
    (stage,) = document["verifications"][0]["stages"]
    assert [stage[proof]["outcome"] for proof in ("trained", "resumed")] == ["ok", "ok"]
    assert stage["trained"]["reserved_bytes"] == stage["predicted_reserved_bytes"]
    assert stage["control"]["outcome"] in ("oom", "thrash") and stage["control"]["passed"]
    verified = read_profile(tmp_path / "profile-verification.profile.json")
    assert verified.status == "verified"
