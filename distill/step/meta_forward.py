"""Models run without their numbers, on PyTorch's meta device, before anything is trained.

Tells in a second what else would end the first update: a model that can't take images of a size,
one that takes no image that is alone, one whose blocks can't be checkpointed or compiled.
"""

from functools import lru_cache

import torch

from distill.base.errors import UserError
from distill.spec.candidate import Candidate, Checkpointing, ModelSpec
from distill.step.batch_norm import sees_its_batch
from distill.step.checkpointing import check_checkpointed
from distill.step.compiled import blocks_of
from distill.step.models import build
from distill.step.optim import check_layers_known

REFUSALS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""What models raise for images that they can't take."""


def fewest_images(candidate: Candidate) -> int:
    """The fewest images that the candidate's student learns from at a time (`fewest_of`).

    An image that is to be mixed needs another.
    """
    fewest = fewest_of(candidate.student, candidate.patch_drop_rate)
    return max(fewest, 2) if candidate.input.mixes else fewest


@lru_cache(maxsize=8)
def fewest_of(spec: ModelSpec, patch_drop_rate: float = 0.0) -> int:
    """The fewest images that the model learns from at a time: 1, or 2 for some with batch norm.

    A batch norm whose input has one pixel an image has nothing to take a variance of. Raises
    `UserError` where the model can't take images of that size at all.
    """
    with torch.device("meta"):
        model = build(spec, patch_drop_rate=patch_drop_rate).train()

    def run(images: int) -> None:
        shape = (images, spec.channels, spec.image_size, spec.image_size)
        with torch.no_grad():
            model(torch.zeros(shape, device="meta"))

    try:
        run(2)
    except NotImplementedError:  # an operator that has no shape without numbers tells nothing
        return 1
    except REFUSALS as error:
        words = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{spec.title} can't take images of {spec.image_size} px: {words}. Choose another "
            "image_size or another model in the recipe."
        ) from error
    if not sees_its_batch(model):
        return 1
    try:
        run(1)
    except ValueError:  # "Expected more than 1 value per channel when training"
        return 2
    return 1


def check_trainable(candidate: Candidate, *, compiles: bool) -> None:
    """Refuse what would else end the stage only as it begins, hours after those before it.

    Raises `UserError` for a student that can't be checkpointed as planned or whose layers have no
    known order to decay by, and with `compiles` for models without blocks to compile.
    """
    if candidate.checkpointing != 0:
        _check_checkpointing(candidate.student, candidate.checkpointing)
    with torch.device("meta"):
        if candidate.layer_decay:
            check_layers_known(build(candidate.student))
        for spec in (candidate.student, candidate.online_teacher) if compiles else ():
            if spec is not None:
                blocks_of(build(spec))


@lru_cache(maxsize=8)
def _check_checkpointing(spec: ModelSpec, checkpointing: Checkpointing) -> None:
    """Have the model learn from two images: some say only in backward what they can't do."""
    with torch.device("meta"):
        model = build(spec, checkpointing=checkpointing).train()
    shape = (2, spec.channels, spec.image_size, spec.image_size)
    try:
        model(torch.zeros(shape, device="meta")).sum().backward()
    except NotImplementedError:  # an operator that has no shape without numbers tells nothing
        return
    check_checkpointed(model)
