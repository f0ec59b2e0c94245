"""The step of a stage: student and teacher with their weights, joined for the request's device.

Where they don't fit, the refusal says what would help. Trains nothing.
"""

from pathlib import Path

import torch
from torch import nn

from distill.base.errors import RunFailed
from distill.data.balance import class_weights
from distill.data.dataset import Dataset
from distill.run.advice import out_of_memory_advice
from distill.run.request import RunRequest
from distill.run.teacher import built_teacher
from distill.spec.stage_plan import StagePlan
from distill.step.assemble import assemble
from distill.step.memory import is_out_of_memory, is_unmappable
from distill.step.models import build_student
from distill.step.step import Objective, Step

ON_A_CPU = "The computer's own memory is full: end other programs. "


def built_step(
    request: RunRequest, plan: StagePlan, teacher: Path | None, data: Dataset, *, begun: bool
) -> Step:
    """The step of the stage; one that has begun gets its weights from its checkpoint later.

    Raises `RunFailed`, with what would help, where the weights alone don't fit or can't be placed.
    """
    try:
        return _build_step(request, plan, teacher, data, begun=begun)
    except RuntimeError as error:
        if is_unmappable(error):
            raise RunFailed(
                f"The driver can't map expandable segments ({error}). Update it (WSL2 needs R615 "
                "or later), or make a profile without them: bench probe --allocator native."
            ) from error
        if not is_out_of_memory(error):
            raise
        advice = advice_for(request, plan, plan.candidate.micro_batch)
        raise RunFailed(f"Out of memory before the first update. {advice}") from error


def first_weights(request: RunRequest, plan: StagePlan) -> nn.Module:
    """A stage's model with the weights that it begins with, fetched where they have to be."""
    return build_student(
        plan.candidate,
        pretrained=request.recipe.pretrained,
        weights=request.weights.get(plan.candidate.stage),
    )


def _build_step(
    request: RunRequest, plan: StagePlan, teacher: Path | None, data: Dataset, *, begun: bool
) -> Step:
    """Student and teacher with their weights, joined to a step."""
    recipe, candidate = request.recipe, plan.candidate
    torch.manual_seed(recipe.seed)
    student = build_student(candidate) if begun else first_weights(request, plan)
    step = assemble(
        candidate,
        student,
        None if candidate.online_teacher is None else built_teacher(request, plan, teacher),
        request.device,
        objective=Objective(
            alpha=recipe.distillation.alpha,
            temperature=recipe.distillation.temperature,
            clip_norm=plan.training.clip_norm,
            class_weights=class_weights(data.train.labels, len(data.classes))
            if candidate.class_weights
            else None,
            label_smoothing=plan.training.label_smoothing or 0.0,
            soft_loss=candidate.soft_loss,
        ),
        learning_rate=plan.training.learning_rate,
        weight_decay=plan.training.weight_decay,
        layer_decay=plan.training.layer_decay,
    )
    if request.ranks.world_size > 1:
        step.replicate(request.ranks.world_size)
    return step


def advice_for(request: RunRequest, plan: StagePlan, micro_batch: int) -> str:
    """What would help where memory ended at that micro-batch, as `bench predict` computes it."""
    candidate = plan.candidate
    if micro_batch != candidate.micro_batch:
        candidate = candidate.with_batch(micro_batch, plan.training.effective_batch)
    computed = out_of_memory_advice(request.recipe, candidate, request.profile)
    return ON_A_CPU + computed if request.device.type == "cpu" else computed
