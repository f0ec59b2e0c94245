"""A step that reads its teacher's logits learns what a step with the teacher in it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.data.batches import LOGITS_DTYPES, Batch, cut, views_of
from distill.data.dataset import Split
from distill.spec.candidate import Candidate
from distill.step.assemble import assemble, assemble_teaching
from distill.step.models import build
from distill.step.step import Step

CPU = torch.device("cpu")


def changed(candidate: Candidate, what: str) -> Candidate:
    """The candidate in another kind of task."""
    assert candidate.teacher is not None
    match what:
        case "several labels":
            return replace(candidate, input=replace(candidate.input, multi_label=True))
        case "three channels":
            models = [replace(m, channels=3) for m in (candidate.student, candidate.teacher)]
            return replace(candidate, student=models[0], teacher=models[1])
        case "another normalisation":
            return replace(candidate, teacher=replace(candidate.teacher, mean=(0.1,), std=(0.25,)))
        case "random crops":
            return replace(
                candidate, input=replace(candidate.input, crop_padding=0, crop_scale=0.3)
            )
        case "bf16":
            return replace(candidate, precision="bf16")
    return candidate


def a_batch(candidate: Candidate) -> Batch:
    rows, classes = np.arange(8), candidate.student.classes
    generator = np.random.default_rng(0)
    shape = (8, candidate.student.channels, 8, 8)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    labels = generator.integers(0, 2 if candidate.input.multi_label else classes, (8, classes))
    data = Split(images, labels if candidate.input.multi_label else labels[:, 0])
    return cut(data, rows, views_of(candidate.input, rows, seed=1, epoch=3))


def learnt(step: Step, batch: Batch) -> list[torch.Tensor]:
    """The loss of an update, and the gradients that it hands to the optimizer."""
    seen: list[torch.Tensor] = []
    step.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.extend(
            p.grad.clone() for group in optimizer.param_groups for p in group["params"]
        )
    )
    return [step.train([batch])[0].loss, *seen]


@pytest.mark.parametrize(
    "what",
    ["one label", "several labels", "three channels", "another normalisation", "random crops",
     "bf16"],
)  # fmt: skip
def test_loss_and_gradients_are_the_online_teachers_to_the_bit(
    small_candidate: Candidate, what: str
) -> None:
    candidate = changed(small_candidate, what)
    batch, steps = a_batch(candidate), []
    for mode in (candidate, replace(candidate, teacher_logits="cached")):
        torch.manual_seed(0)
        student, teacher = build(candidate.student), build(candidate.teacher)
        steps.append(assemble(mode, student, teacher if mode.online_teacher else None, CPU))
    assert steps[1].teacher is None and steps[1].prepare.teacher_scale is None
    with torch.device("meta"):
        no_student = build(candidate.student)
    logits = assemble_teaching(candidate, no_student, teacher, CPU)(batch)
    assert logits.dtype == LOGITS_DTYPES[candidate.precision] and logits.shape == (8, 10)
    online = learnt(steps[0], batch)
    cached = learnt(steps[1], replace(batch, taught=logits))
    assert all(torch.equal(one, other) for one, other in zip(online, cached, strict=True))
