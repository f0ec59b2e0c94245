"""What cards recorded, predicted anew: the errors are known and stay as they are, to the byte.

`results/evidence/` holds what PyTorch's allocator did on an NVIDIA H200 and an NVIDIA H100 (driver
580.159.04, torch 2.11.0). A row below is predicted − recorded bytes, requested, allocated and
reserved, for the recordings that are not 0 B off. Whoever mends one takes its row away; whoever
adds one has made the prediction worse.
"""

import pytest

from bench.evidence.comparison import ComparedRecording, compare_all, recordings_in
from tests.conftest import ROOT

EXACT = (0, 0, 0)

H200_ERRORS = {
    "teacher resnet50 fp16 checkpointing 0, 32 × 1, fused, expandable": (131, 0, 0),
    "teacher resnet18 fp32 checkpointing 0, 16 × 1, fused, native": (-3867084, -5767680, -81788928),
    # In the two with foreach AdamW the scaler skipped the second update (see ../h100/README.md).
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

H100_ERRORS = {
    "teacher resnet18 fp32 checkpointing 0, 32 × 1, fused, expandable": (
        -5505388,
        -5505024,
        -20971520,
    ),
    "teacher resnet18 bf16 checkpointing 0, 32 × 1, fused, expandable": (524483, 524288, 0),
    "teacher resnet50 fp32 checkpointing 0, 32 × 1, fused, expandable": (1179899, 1179648, 0),
    "teacher resnet50 bf16 checkpointing 0, 32 × 1, fused, expandable": (131, 0, 0),
    "teacher vit_base_patch16_224 fp16 checkpointing 0, 24 × 1, fused, native": (0, -3743744, 0),
    "assistant vit_small_patch16_224 fp16 checkpointing 0, 24 × 1, fused, native": (
        0,
        1390592,
        -23068672,
    ),
    "teacher resnet50 fp16 checkpointing 0, 32 × 1, fused, expandable": (131, 0, 0),
    "teacher resnet18 fp32 checkpointing 0, 16 × 1, fused, native": (-3867084, -5767680, -81788928),
    "teacher resnet18 fp32 checkpointing 0, 16 × 1, fused, expandable": (
        -3867084,
        -3867136,
        -20971520,
    ),
    "teacher resnet18 fp16 checkpointing 0, 16 × 1, fused, expandable": (-3277028, -3276800, 0),
    "teacher resnet34 fp32 checkpointing 0, 16 × 1, fused, expandable": (-3867084, -3867136, 0),
    "teacher resnet34 fp16 checkpointing 0, 16 × 1, fused, expandable": (-3277028, -3276800, 0),
    "teacher resnet50 fp32 checkpointing 0, 16 × 1, fused, expandable": (
        -13303581,
        -13303296,
        -20971520,
    ),
    "teacher resnet50 fp16 checkpointing 0, 16 × 1, fused, expandable": (655571, 655360, 0),
    "teacher mobilenetv3_large_100 fp32 checkpointing 0, 16 × 1, fused, expandable": (
        -1914880,
        -1914880,
        0,
    ),
    "teacher mobilenetv3_large_100 fp16 checkpointing 0, 16 × 1, fused, expandable": (
        2370704,
        2371072,
        0,
    ),
    "teacher efficientnet_b0 fp16 checkpointing 0, 16 × 1, fused, expandable": (
        -13853028,
        -13842944,
        -20971520,
    ),
}

KNOWN_ERRORS = {"h200": H200_ERRORS, "h100": H100_ERRORS}
RECORDINGS = {"h200": 24, "h100": 52}
HISTORIES = {"h200": 10, "h100": 27}


def name_of(compared: ComparedRecording) -> str:
    candidate = compared.recording.candidate
    return (
        f"{candidate.stage} {candidate.student.name} {candidate.precision} "
        f"checkpointing {candidate.checkpointing}, {candidate.micro_batch} × "
        f"{candidate.accumulation}, {candidate.implementation}, "
        f"{compared.recording.pins.allocator}"
    )


@pytest.fixture(scope="module", params=KNOWN_ERRORS)
def card(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def compared(card: str, workers_are_forked: None) -> list[ComparedRecording]:
    return compare_all(recordings_in(ROOT / "results" / "evidence" / card))


def test_every_recording_is_predicted_with_the_error_that_is_known(
    card: str, compared: list[ComparedRecording]
) -> None:
    found = {name_of(one): one.errors for one in compared if one.errors != EXACT}
    assert found == KNOWN_ERRORS[card]


def test_no_configuration_reserved_more_than_its_maximum(
    compared: list[ComparedRecording],
) -> None:
    assert not [name_of(one) for one in compared if one.is_above_maximum]


def test_the_bound_for_cudnn_is_within_a_tenth_for_resnets(
    compared: list[ComparedRecording],
) -> None:
    """Of the others MobileNetV3 in fp16 is the farthest above, 18 %."""
    for one in compared:
        most = 1.1 if "resnet" in one.recording.candidate.student.name else 1.2
        assert one.reserved_max <= most * one.recorded[2], name_of(one)


def test_all_recordings_are_of_the_card_and_none_is_imitated(
    card: str, compared: list[ComparedRecording]
) -> None:
    assert len(compared) == RECORDINGS[card]
    assert {one.recording.source for one in compared} == {"recorded"}


def test_the_allocator_does_in_every_history_what_it_did_on_the_card(
    card: str, compared: list[ComparedRecording]
) -> None:
    histories = [one for one in compared if one.mismatches is not None]
    assert len(histories) == HISTORIES[card]
    assert not [one for one in histories if one.mismatches]
