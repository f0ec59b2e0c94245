"""Putting a `Step` together for a candidate: the order of it is part of its memory.

The chain, the probe and the predictor all build their step here, so that what is predicted
and measured is what trains.
"""

from collections.abc import Callable

import torch
from torch import nn

from distill.spec.candidate import Candidate
from distill.step.models import build, normalisation_of
from distill.step.optim import make_optimizer
from distill.step.prepare import Prepare
from distill.step.step import Objective, Phase, Step, Teaching, no_mark


def assemble(
    candidate: Candidate,
    student: nn.Module,
    teacher: nn.Module | None,
    device: torch.device,
    *,
    objective: Objective | None = None,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.05,
    layer_decay: float | None = None,
    mark: Callable[[Phase], None] = no_mark,
) -> Step:
    """Move the models to the device, student first, and join them to a step.

    The models are as `models` builds them for it. Without `objective` the loss has the default
    weights and does what the candidate says; without `layer_decay` it is 0.75 where that has one.
    The order of the lines is the order of allocations: student, teacher, normalisation, optimizer,
    scaler, the weights of classes.
    """
    mark("setup")
    student, teacher = student.to(device), None if teacher is None else teacher.to(device)
    prepare = _prepare(candidate, student, teacher, device)
    optimizer = make_optimizer(
        student,
        kind=candidate.optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        implementation=candidate.implementation,
        layer_decay=(layer_decay or 0.75) if candidate.layer_decay else None,
    )
    return Step(
        student,
        teacher,
        optimizer,
        prepare,
        objective=objective or _plain_objective(candidate),
        precision=candidate.precision,
        mark=mark,
    )


def assemble_teaching(
    candidate: Candidate,
    student: nn.Module,
    teacher: nn.Module,
    device: torch.device,
    *,
    mark: Callable[[Phase], None] = no_mark,
) -> Teaching:
    """Move the teacher to the device, to make the logits that `candidate` reads.

    The student stays where it is, which may be the meta device: it says how images are normalised.
    """
    mark("setup")
    teacher = teacher.to(device)
    prepare = _prepare(candidate, student, teacher, device)
    return Teaching(teacher, prepare, candidate.precision, mark)


def built_teaching(
    candidate: Candidate, device: torch.device, mark: Callable[[Phase], None] = no_mark
) -> Teaching:
    """The pass that makes the candidate's logits, its teacher with random weights: for bytes alone.

    The candidate must have a teacher.
    """
    assert candidate.teacher is not None
    with torch.device("meta"):
        student = build(candidate.student)
    return assemble_teaching(candidate, student, build(candidate.teacher), device, mark=mark)


def _plain_objective(candidate: Candidate) -> Objective:
    """The default loss, as large in memory as the candidate's."""
    return Objective(
        clip_norm=1.0 if candidate.clip_norm else None,
        class_weights=(1.0,) * candidate.student.classes if candidate.class_weights else None,
        label_smoothing=0.1 if candidate.label_smoothing else 0.0,
        soft_loss=candidate.soft_loss,
    )


def _prepare(
    candidate: Candidate, student: nn.Module, teacher: nn.Module | None, device: torch.device
) -> Prepare:
    channels = candidate.student.channels
    return Prepare(
        candidate.input,
        candidate.student.image_size,
        normalisation_of(student, channels),
        device,
        teacher=None if teacher is None else normalisation_of(teacher, channels),
    )
