"""Users' steps, predicted and run on PyTorch's own CUDA code, to the byte."""

from difflib import SequenceMatcher
from pathlib import Path

import pytest

from tests.driver import op_steps, user_steps
from tests.driver.canary import moved_in_step
from tests.driver.judged_steps import CONVOLUTIONAL, OPS, TEN, JudgedStep, StepRequest, judged_steps

pytestmark = pytest.mark.slow

EXACT: list[StepRequest] = [
    *((TEN, name, "expandable") for name in user_steps.STEPS if name not in CONVOLUTIONAL),
    *((OPS, name, "expandable") for name in op_steps.STEPS),
]
WITH_CONVOLUTIONS: list[StepRequest] = [(TEN, name, "expandable") for name in CONVOLUTIONAL]
NATIVE: list[StepRequest] = [
    (TEN, name, "native") for name in user_steps.STEPS if name not in CONVOLUTIONAL
]

CUBLAS_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024


@pytest.fixture(scope="module")
def judged(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[StepRequest, JudgedStep]:
    """All of them, from one process that loads what they need."""
    folder = tmp_path_factory.mktemp("steps")
    return judged_steps(library, folder, [*EXACT, *WITH_CONVOLUTIONS, *NATIVE])


@pytest.mark.slow
@pytest.mark.parametrize("asked", EXACT, ids=lambda asked: asked[1])
def test_a_step_takes_what_is_predicted(
    judged: dict[StepRequest, JudgedStep], asked: StepRequest
) -> None:
    """Every request in its order, and every peak."""
    one = judged[asked]
    assert [size for size, _ in one.requests] == one.recorded_requests
    assert one.errors == (0, 0, 0)
    assert moved_in_step(one, asked[1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("asked", NATIVE, ids=lambda asked: asked[1])
def test_native_segments_stay_below_the_most_that_is_foreseen(
    judged: dict[StepRequest, JudgedStep], asked: StepRequest
) -> None:
    one = judged[asked]
    assert one.is_repeated and one.errors[0] == 0
    assert one.recorded[2] <= one.prediction.reserved_max


@pytest.mark.slow
@pytest.mark.parametrize("asked", WITH_CONVOLUTIONS, ids=lambda asked: asked[1])
def test_a_convolutional_step_differs_in_nothing_but_what_cudnn_makes(
    judged: dict[StepRequest, JudgedStep], asked: StepRequest
) -> None:
    """Beside convolutions only cuBLAS's workspace, which cuDNN's stand-in is first to take."""
    one = judged[asked]
    assert moved_in_step(one, asked[1]) == []
    sizes = [size for size, _ in one.requests]
    matcher = SequenceMatcher(None, sizes, one.recorded_requests, autojunk=False)
    for kind, begin, end, first, last in matcher.get_opcodes():
        if kind == "equal":
            continue
        there = one.requests[max(0, begin - 1) : end + 1]
        near = any("convolution" in op for _, op in there)
        assert near or {size for size, _ in one.requests[begin:end]} == {CUBLAS_BYTES}, (
            there,
            one.recorded_requests[first:last],
        )
