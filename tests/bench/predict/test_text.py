"""What an answer says of cuDNN, whose workspaces only a card can tell."""

import pytest

from bench.card.targets import target_named
from bench.predict.document import fit_document
from bench.predict.text import fit_line, prediction_text
from bench.simulate.predictor import Predictor
from distill.base.units import MIB
from distill.spec.candidate import Allocator, Candidate, InputSpec, ModelSpec

BOUND = "MiB are a bound for cuDNN"

RESNET = Candidate(
    stage="teacher",
    student=ModelSpec(name="resnet18", classes=10, image_size=224),
    teacher=None,
    input=InputSpec(source_size=32),
    micro_batch=16,
    precision="fp32",
)
"""A net whose kernels work in clusters on a card of compute capability 9.0."""


@pytest.mark.parametrize("allocator", ["expandable", "native"])
def test_what_of_the_most_is_a_bound_for_cudnn_is_told_in_one_line(allocator: Allocator) -> None:
    found = Predictor(target_named("h200"), allocator).predict(RESNET)
    document, text = fit_document(found, 0), prediction_text(found)
    lines = text.splitlines()
    bound = document.cudnn_bound_bytes
    assert 0 < bound < found.reserved / 5
    assert document.peak_reserved_max_bytes - bound >= document.peak_reserved_bytes
    assert [line for line in lines if BOUND in line] == [
        f"of the most, {bound / MIB:.2f} {BOUND}: some of its workspaces only a card can tell"
    ]
    most = f"(at most {found.reserved_max / MIB:.0f}"
    assert any(most in line for line in lines)
    assert found.safe_bytes == found.reserved_max
    assert "does not fit: 1 MiB more" in fit_line(found, found.safe_bytes - MIB)
    assert sum(found.breakdown.values()) == found.reserved


def test_where_every_workspace_is_certain_there_is_no_bound(small_candidate: Candidate) -> None:
    found = Predictor(target_named("h200"), "expandable").predict(small_candidate)
    assert fit_document(found, 0).cudnn_bound_bytes == 0
    assert found.reserved_max == found.reserved
    assert BOUND not in prediction_text(found)


def test_an_answer_says_how_long_an_update_takes_and_what_bounds_it(
    small_candidate: Candidate,
) -> None:
    found = Predictor(target_named("h200"), "expandable").predict(small_candidate)
    text, timing = prediction_text(found), fit_document(found, 0).timing
    (said,) = [line for line in text.splitlines() if line.startswith("bound by: ")]
    assert said.startswith("bound by: host launches")
    assert said.endswith(f"; {timing.launches} launches an update")
    assert "68 µs a launch: assumed, as on an NVIDIA H200" in text
    assert timing.images_per_second == small_candidate.micro_batch / timing.update_seconds
    parts = (timing.product_seconds, timing.memory_seconds, timing.host_seconds)
    assert sum(parts) == timing.update_seconds
