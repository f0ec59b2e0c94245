"""What happens to images and labels on the device is traced with the step, whatever the data."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.predict.answer import request_of
from bench.predict.command import PredictOptions, predict
from bench.simulate.trace.tracer import trace_step
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"crop_scale": 0.3, "crop_padding": 0}, {"multi_label": True}])
def test_other_inputs_are_traced_too(small_candidate, change: dict[str, object]) -> None:
    plain = trace_step(small_candidate, attention="efficient")
    inputs = replace(small_candidate.input, **change)
    other = trace_step(replace(small_candidate, input=inputs), attention="efficient")
    assert len(other.base) and other.base.tolist() != plain.base.tolist()


def test_a_teacher_of_the_users_own_is_the_one_that_is_predicted(recipe_file: Path) -> None:
    own = ROOT / "tests" / "old_files" / "run" / "teacher"
    words = ["--recipe", str(recipe_file), "--stage", "student", "--batch-size", "4"]
    with predict.make_context("predict", [*words, "--teacher-weights", str(own)]) as context:
        teacher = request_of(PredictOptions(**context.params)).candidate.teacher
    assert teacher is not None and (teacher.depth, teacher.width) == (2, 32)
    both = CliRunner().invoke(main, ["predict", *words, "--teacher", "a", "--teacher-weights", "b"])
    assert both.exit_code == 2
    assert "not both" in both.output


def test_a_teacher_with_its_own_normalisation_costs_a_copy_of_the_images(small_candidate) -> None:
    plain = trace_step(small_candidate, attention="efficient")
    teacher = replace(small_candidate.teacher, mean=(0.1,), std=(0.25,))
    other = trace_step(replace(small_candidate, teacher=teacher), attention="efficient")
    assert len(other.base) > len(plain.base)


def test_weights_of_classes_are_a_tensor_on_the_card(small_candidate) -> None:
    plain = trace_step(small_candidate, attention="efficient")
    other = trace_step(replace(small_candidate, class_weights=True), attention="efficient")
    assert len(other.base) > len(plain.base)
