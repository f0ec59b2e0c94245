"""The configuration that a prediction is asked for: a recipe's stage, changed as wanted. Pure."""

from dataclasses import dataclass, replace

from distill.base.errors import UserError
from distill.spec.candidate import (
    Candidate,
    Checkpointing,
    Implementation,
    ModelSpec,
    Optimizer,
    Precision,
    StageName,
    TeacherMode,
)
from distill.spec.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Question:
    """Changes of a recipe's stage; `None` leaves what the recipe says."""

    stage: StageName
    batch_size: int
    accumulation: int = 1
    precision: Precision = "fp16"
    checkpointing: Checkpointing = 0
    optimizer: Optimizer | None = None
    implementation: Implementation = "fused"
    model: str | None = None
    teacher: str | None = None
    teacher_mode: TeacherMode | None = None
    image_size: int | None = None
    classes: int | None = None
    deterministic: bool = False


def candidate_for(recipe: Recipe, question: Question) -> Candidate:
    """The candidate that the question is about.

    Another model or teacher is built in timm's own shape, at the recipe's image size. Raises
    `UserError` for a cached teacher of a stage that nothing teaches.
    """
    base = recipe.candidate(question.stage, micro_batch=question.batch_size)
    teacher = base.teacher
    if question.teacher is not None:
        teacher = replace(_plain(base.student), name=question.teacher)
    mode = question.teacher_mode or base.teacher_logits
    if teacher is None and question.teacher_mode is not None:
        raise UserError(
            f"Stage {question.stage} is taught by nothing: leave --teacher {mode} out, "
            "or name a teacher with --teacher NAME."
        )
    if question.teacher_mode == "cached":
        recipe.check_cacheable(question.stage)
    student = base.student
    if question.model is not None:
        student = replace(_plain(student), name=question.model)
    return replace(
        base,
        student=_resized(student, question),
        teacher=None if teacher is None else _resized(teacher, question),
        accumulation=question.accumulation,
        precision=question.precision,
        checkpointing=question.checkpointing,
        optimizer=question.optimizer or base.optimizer,
        implementation=question.implementation,
        deterministic=question.deterministic,
        teacher_logits=mode,
    )


def _plain(spec: ModelSpec) -> ModelSpec:
    return replace(spec, patch_size=None, depth=None, width=None, heads=None)


def _resized(spec: ModelSpec, question: Question) -> ModelSpec:
    return replace(
        spec,
        image_size=question.image_size or spec.image_size,
        classes=question.classes or spec.classes,
    )
