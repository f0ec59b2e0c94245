"""A configuration by the name that `bench compare` gives it. Pure."""

import re
from collections.abc import Sequence
from typing import get_args

from bench.predict.question import Question, candidate_for
from distill.base.errors import UserError
from distill.base.nearest import nearest_names
from distill.spec.bounds import MOST_BLOCKS, MOST_IMAGES, MOST_UPDATE_IMAGES
from distill.spec.candidate import STAGES, Candidate, Checkpointing, Precision
from distill.spec.recipe import Recipe

LABEL = re.compile(
    r"(?P<stage>teacher|assistant|student)/(?P<precision>fp32|fp16|bf16)"
    r"(?P<again>\+cheap|\+ckpt(/(?P<every>[1-9]\d{0,6}))?)?(?P<cached>\+cached)?"
    r"/b?(?P<batch>[1-9]\d{0,9})(x(?P<times>[1-9]\d{0,9}))?"
)
"""`Candidate.label` between stage and images. Without a count of times, as many as the recipe's
update takes."""

AGAIN = ("cheap", "ckpt", "cached")
"""What may follow a precision."""

EXAMPLE = "student/fp16+ckpt/32x4"


def is_label(text: str) -> bool:
    """True if it names a configuration."""
    return LABEL.fullmatch(text) is not None


def nearest_label(text: str) -> str | None:
    """The configuration that a misspelt one may stand for; `None` where none is near."""
    stage, _, rest = text.partition("/")
    settings, _, images = rest.partition("/")
    precision, *again = (settings or "fp16").split("+")
    words = [
        _nearest(stage, STAGES),
        "+".join(
            [_nearest(precision, get_args(Precision)), *(_nearest(one, AGAIN) for one in again)]
        ),
        images or EXAMPLE.rpartition("/")[2],
    ]
    meant = "/".join(words)
    return meant if is_label(meant) else None


def _nearest(word: str, known: Sequence[str]) -> str:
    return next(iter(nearest_names(word, known, most=1)), word)


def labelled(text: str, recipe: Recipe) -> Candidate:
    """The configuration of a recipe's stage. Raises `UserError` for one that it has not."""
    found = LABEL.fullmatch(text)
    if found is None:
        raise UserError(f"{text} is no configuration such as {EXAMPLE}.")
    stage = recipe.stage_named(found["stage"]).name  # type: ignore[arg-type]
    batch = int(found["batch"])
    whole = recipe.training_of(stage).effective_batch
    times = int(found["times"]) if found["times"] else -(-whole // batch)
    checkpointing: Checkpointing = 0
    if found["again"]:
        checkpointing = "cheap" if found["again"] == "+cheap" else int(found["every"] or 1)
    bounds = ((batch, MOST_IMAGES), (times, MOST_UPDATE_IMAGES), (checkpointing, MOST_BLOCKS))
    for number, most in bounds:
        if number != "cheap" and int(number) > most:
            raise UserError(f"{text}: {number} is more than {most}, the most that is taken.")
    question = Question(
        stage=stage,
        batch_size=batch,
        accumulation=times,
        precision=found["precision"],  # type: ignore[arg-type]
        checkpointing=checkpointing,
        teacher_mode="cached" if found["cached"] else None,
    )
    return candidate_for(recipe, question)
