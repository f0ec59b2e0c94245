"""Models run without their numbers, on PyTorch's meta device, before anything is trained.

Tells in a second what else would end the first update: a model that can't take images of a size,
and one that takes no image that is alone.
"""

from functools import lru_cache

import torch

from distill.base.errors import UserError
from distill.spec.candidate import Candidate, ModelSpec
from distill.step.batch_norm import sees_its_batch
from distill.step.models import build

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
