"""A recipe as a TOML file that explains itself: every key with what it means.

Keys that the recipe does without stand in it as comments, with a value to try.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from distill.spec.recipe import Recipe, Stage

Notes = Mapping[str, tuple[str, str | None]]
"""By key: what it means, and what stands there where the recipe has none; `None` for nothing."""

WHOLE: Notes = {
    "name": ("runs and profiles are told apart by it", None),
    "about": ("one line about it, which a probe prints", None),
    "dataset": ("folder:DIR with a folder for each class, csv:FILE, or a published set", None),
    "image_size": ("pixels to which images are brought, wide and high", None),
    "pretrained": ("begin with ImageNet weights, fetched once; or with random ones", None),
    "seed": ("of weights, order and views", None),
    "skip_unreadable": ("leave images out that can't be read, and list them", "true"),
}
TRAINING: Notes = {
    "epochs": ("every image once each; a stage may say otherwise below", "30"),
    "effective_batch": (
        "images an update; how many at a time, a profile says (bench probe)",
        None,
    ),
    "learning_rate": ("the highest, after the warm-up", None),
    "optimizer": ("adamw, adam or sgd", None),
    "weight_decay": ("of matrices; vectors are not decayed", None),
    "warmup_epochs": ("over which the learning rate rises from nothing", None),
    "clip_norm": ("longer gradients are shortened to it", "1.0"),
    "schedule": ("how the learning rate falls: cosine, or step", None),
    "step_epochs": ("with step: after so many epochs each; else each third of them", "10"),
    "step_factor": ("with step: by this factor", None),
    "criterion": ("what makes an epoch the best: accuracy, auc, f1 or loss", '"accuracy"'),
    "patience": ("stop after so many epochs without a better one", "5"),
    "balance": ("rare classes count as much as others: weights, or sampling", '"sampling"'),
    "label_smoothing": ("share of a label's weight that all classes get", "0.1"),
    "layer_decay": ("a layer learns slower than the one above it by this factor", "0.75"),
    "patch_drop_rate": ("share of an image's patches that a student does not see", "0.5"),
    "teacher": (
        "online: in each step; cached: it answers once, before the stage",
        '"cached"',
    ),
    "teacher_views": ("with cached: views of each image that are kept", "8"),
}
AUGMENTATION: Notes = {
    "crop_padding": ("pixels around the stored image, out of which a window is cut", None),
    "crop_scale": ("instead: a part of at least this share of the image, enlarged", "0.5"),
    "flip": ("half of the images mirrored: not for letters, or where sides differ", None),
    "mixup": ("images and labels mixed in pairs", "0.8"),
    "cutmix": ("a part of another image pasted in", "1.0"),
}
DISTILLATION: Notes = {
    "temperature": ("above 1, what a teacher holds for less likely counts more", None),
    "alpha": ("weight of the teacher; the labels have the rest", None),
    "loss": ("kl: of probabilities; logit_std: of those of standard scores", '"kl"'),
}
STAGE = """\
# The stages, in order. Each model is a name that timm knows, in its own shape unless patch_size,
# depth, width or heads say otherwise. `training = { … }` lays values over those above."""


WIDTH = 28
"""Letters of a key and its value before the note; longer ones stand below it."""


def recipe_text(recipe: Recipe, opening: str = "") -> str:
    """The recipe as TOML with comments; reading it gives the recipe back."""
    lines = [f"# {line}".rstrip() for line in opening.splitlines()] + [""] * bool(opening)
    lines += [*_keys(recipe, WHOLE), "", "[training]", *_keys(recipe.training, TRAINING)]
    lines += ["", "[augmentation]", *_keys(recipe.augmentation, AUGMENTATION)]
    lines += ["", "[distillation]", *_keys(recipe.distillation, DISTILLATION), "", STAGE]
    for stage in recipe.stage:
        lines += ["", "[[stage]]", *_stage(stage)]
    return "\n".join(lines) + "\n"


def _keys(part: BaseModel, notes: Notes) -> Iterator[str]:
    """A line for each key with its note behind it; that of a key without a value is a comment."""
    for key, (note, other) in notes.items():
        value = getattr(part, key)
        is_left_out = value is None or (key == "skip_unreadable" and not value)
        if is_left_out:
            assert other is not None
        text = f"# {key} = {other}" if is_left_out else f"{key} = {_value(value)}"
        if len(text) > WIDTH:
            yield f"# {note}"
            yield text
        else:
            yield f"{text:{WIDTH}}  # {note}"


def _stage(stage: Stage) -> Iterator[str]:
    yield f"name = {_value(stage.name)}"
    yield f"model = {_value(stage.model.model_dump(exclude_none=True))}"
    if stage.taught_by is not None:
        yield f"taught_by = {_value(stage.taught_by)}"
    if stage.own_teacher is not None:
        yield f"own_teacher = {_value(stage.own_teacher.model_dump(exclude_none=True))}"
    if stage.training:
        yield f"training = {_value(stage.training)}"


def _value(value: Any) -> str:
    """A value as TOML writes it; strings as JSON does, but for what TOML wants escaped too."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
