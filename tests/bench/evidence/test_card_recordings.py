"""What a card recorded, predicted anew: the errors are known and stay as they are, to the byte.

`results/evidence/h200/` holds what PyTorch's allocator did on an NVIDIA H200 (driver 580.159.04,
torch 2.11.0). A row below is predicted − recorded bytes, requested, allocated and reserved, for
the recordings that are not 0 B off. Whoever mends one takes its row away; whoever adds one has
made the prediction worse.
"""

import pytest

from bench.evidence.comparison import ComparedRecording, compare_all, recordings_in
from tests.conftest import ROOT

H200 = ROOT / "results" / "evidence" / "h200"

EXACT = (0, 0, 0)

KNOWN_ERRORS = {
    "teacher resnet50 fp16 checkpointing 0, 32 × 1, fused, expandable": (131, 0, 0),
    "teacher resnet18 fp32 checkpointing 0, 16 × 1, fused, native": (
        -3_277_192,
        -4_129_280,
        -90_177_536,
    ),
    "teacher vit_base_patch16_224 fp16 checkpointing 0, 1 × 1, fused, expandable": (
        -600_576,
        -600_576,
        0,
    ),
    "teacher vit_base_patch16_224 fp16 checkpointing 1, 8 × 1, foreach, expandable": (
        976_976,
        977_920,
        20_971_520,
    ),
    "assistant vit_small_patch16_224 fp16 checkpointing 1, 16 × 1, foreach, expandable": (
        488_528,
        489_472,
        0,
    ),
}


def name_of(judged: ComparedRecording) -> str:
    candidate = judged.recording.candidate
    return (
        f"{candidate.stage} {candidate.student.name} {candidate.precision} "
        f"checkpointing {candidate.checkpointing}, {candidate.micro_batch} × "
        f"{candidate.accumulation}, {candidate.implementation}, "
        f"{judged.recording.pins.allocator}"
    )


@pytest.fixture(scope="module")
def judged() -> dict[str, ComparedRecording]:
    return {name_of(one): one for one in compare_all(recordings_in(H200))}


def test_every_recording_is_predicted_with_the_error_that_is_known(
    judged: dict[str, ComparedRecording],
) -> None:
    found = {name: one.errors for name, one in judged.items() if one.errors != EXACT}
    assert found == KNOWN_ERRORS


def test_all_recordings_are_of_this_card_and_none_is_imitated(
    judged: dict[str, ComparedRecording],
) -> None:
    assert len(judged) == 24
    assert {one.recording.source for one in judged.values()} == {"recorded"}


def test_the_allocator_does_in_every_history_what_it_did_on_the_card(
    judged: dict[str, ComparedRecording],
) -> None:
    histories = [one for one in judged.values() if one.mismatches is not None]
    assert len(histories) == 10
    assert not [one for one in histories if one.mismatches]
