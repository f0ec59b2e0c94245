"""The time of a stage and of a chain, from the rates of a profile."""

from dataclasses import replace

import pytest

from distill.spec.calibration import ASSUMED
from distill.spec.catalog import dataset_info
from distill.spec.profile import Choice, Profile
from distill.spec.stage_time import chain_lines, rough, stage_line, stage_time
from distill.spec.step_times import PredictedTiming

TIMING = PredictedTiming(
    product_seconds=1.6,
    memory_seconds=0.4,
    host_seconds=0.0,
    launches=1000,
    launching_seconds=0.1,
    evaluated_per_second=200.0,
    calibration=ASSUMED,
)


def timed(choice: Choice, **changes: object) -> Choice:
    update = {"images_per_second": 100.0, "predicted_timing": TIMING, **changes}
    return choice.model_copy(update=update)


def test_a_stage_takes_its_updates_and_a_validation_an_epoch(rtx4050_profile: Profile) -> None:
    found = stage_time(timed(rtx4050_profile.choices[0]), 3, dataset_info("cifar10", 224))
    assert found is not None
    assert (found.update_seconds, found.validation_seconds) == (3 * 450, 3 * 25)
    assert found.seconds == 1425


def test_of_a_rate_that_is_only_a_bound_no_time_is_made(rtx4050_profile: Profile) -> None:
    bound = timed(rtx4050_profile.choices[0], predicted_timing=None)
    assert stage_time(bound, 3, dataset_info("cifar10", 224)) is None


def test_a_chain_says_its_time_by_stage_and_what_is_not_in_it(rtx4050_profile: Profile) -> None:
    seconds = (20 * 3600.0, 5 * 3600.0, 1560.0)
    choices = tuple(
        timed(choice, stage_seconds=one)
        for choice, one in zip(rtx4050_profile.choices, seconds, strict=True)
    )
    profile = rtx4050_profile.model_copy(update={"choices": choices})
    epochs = {"teacher": 100, "assistant": 100, "student": 2}
    assert chain_lines(profile, epochs) == [
        "This chain on RTX 4050 Laptop: about 25 h 30 min (predicted)",
        "  teacher 20 h 00 min, 100 epochs; assistant 5 h 00 min, 100 epochs; "
        "student 26 min, 2 epochs",
        f"  {ASSUMED.words}; not counted: start, input, saving and the test at the end",
    ]
    measured = tuple(timed(c, stage_seconds=1.0, source="measured") for c in choices)
    lines = chain_lines(profile.model_copy(update={"choices": measured}), epochs)
    assert lines[0].endswith("less than a minute (updates measured, validation predicted)")
    one_missing = (choices[0], choices[1].model_copy(update={"stage_seconds": None}))
    assert chain_lines(profile.model_copy(update={"choices": one_missing}), epochs) == []


def test_a_stage_that_begins_says_what_it_is_expected_to_take(rtx4050_profile: Profile) -> None:
    choice, data = timed(rtx4050_profile.choices[0]), dataset_info("cifar10", 224)
    line = stage_line(choice, 100, data, "RTX 4050 Laptop")
    assert line is not None and line.startswith(
        "the whole stage takes about 13 h 10 min (predicted for RTX 4050 Laptop); not counted: "
    )
    measured = stage_line(timed(choice, source="measured"), 1, data, "X")
    assert measured is not None and "about 8 min (updates measured on X)" in measured
    assert stage_line(None, 100, data, "X") is None
    assert stage_line(timed(choice, predicted_timing=None), 100, data, "X") is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (30, "less than a minute"),
        (100, "about 2 min"),
        (59 * 60, "about 59 min"),
        (5 * 3600 + 38 * 60, "about 5 h 40 min"),
        (3 * 3600 - 1, "about 3 h 00 min"),
    ],
)
def test_a_predicted_time_is_told_no_more_exactly_than_it_is(seconds: float, words: str) -> None:
    assert rough(seconds) == words


def test_what_bounds_an_update_is_told_the_largest_share_first() -> None:
    assert TIMING.words == "products 80 %, memory 20 %"
    assert TIMING.seconds == 2.0
    waits = replace(TIMING, host_seconds=6.0)
    assert waits.words == "host launches 75 %, products 20 %, memory 5 %"


def test_a_choice_is_written_with_its_predicted_time_and_read_back(
    rtx4050_profile: Profile,
) -> None:
    choice = timed(rtx4050_profile.choices[0], stage_seconds=1425.0)
    document = choice.model_dump(mode="json")
    assert document["predicted_timing"]["calibration"]["source"] == "assumed"
    assert Choice.model_validate(document) == choice
    plain = timed(choice, predicted_timing=None, stage_seconds=None).model_dump(mode="json")
    assert not {"timing", "predicted_timing", "stage_seconds"} & plain.keys()
