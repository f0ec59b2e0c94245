"""Tables of a run: what is not known is left out."""

from dataclasses import replace

import pytest

from distill.report.tables import accuracy_text, time_rows
from distill.train.run_folder import StageResult

RESULT = StageResult(
    stage="teacher",
    model="vit_tiny_patch16_224",
    parameters=1,
    best_epoch=1,
    val_accuracy=0.5,
    test_accuracy=0.5,
    test_precision=0.5,
    test_recall=0.5,
    test_f1_score=0.5,
    test_images=10,
    epochs=2,
    train_seconds=20.0,
    peak_reserved_bytes=None,
    device="cpu",
    checkpoint="best_acc_50.00.pth",
)


def test_where_the_time_of_a_stage_went_is_told_where_it_is_known() -> None:
    parts = {"update_seconds": 12.0, "input_seconds": 1.0, "evaluation_seconds": 3.0}
    whole = replace(RESULT, saving_seconds=4.0, **parts)
    assert time_rows([RESULT, replace(RESULT, **parts), whole]) == [
        {
            "stage": "teacher",
            "an epoch": "10 s",
            "updates": "60.0 %",
            "input": "5.0 %",
            "validation": "15.0 %",
            "saving": "20.0 %",
        }
    ]


@pytest.mark.parametrize(
    ("accuracy", "images", "text"),
    [
        (0.5, 100, "50.00 ± 5.00"),  # √(½ · ½ / 100)
        (0.969, 359, "96.90 ± 0.91"),
        (1.0, 10, "100.00 ± 0.00"),
        (1.0 + 1e-7, 10, "100.00 ± 0.00"),  # means of 32-bit numbers
    ],
)
def test_an_accuracy_has_its_binomial_standard_error(accuracy, images, text) -> None:
    assert accuracy_text(accuracy, images) == text
