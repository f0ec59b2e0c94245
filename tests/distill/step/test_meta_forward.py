"""What a model takes, found out in a moment and without its numbers."""

import pytest
import torch

from distill.base.errors import UserError
from distill.spec.candidate import ModelSpec
from distill.step.meta_forward import fewest_of
from distill.step.models import build


def spec(name: str, size: int, **shape: int) -> ModelSpec:
    return ModelSpec(name=name, classes=4, image_size=size, **shape)


@pytest.mark.parametrize(
    ("model", "fewest"),
    [
        (spec("resnet18", 32), 2),
        (spec("resnet18", 64), 1),
        (spec("vit_tiny_patch16_224", 8, patch_size=4, depth=1, width=16, heads=1), 1),
        (spec("convnext_atto", 32), 1),
    ],
)
def test_batch_norm_of_one_value_takes_no_image_alone(model: ModelSpec, fewest: int) -> None:
    assert fewest_of(model) == fewest
    real = build(model).train()
    real(torch.rand(fewest, 3, model.image_size, model.image_size))
    if fewest > 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            real(torch.rand(1, 3, model.image_size, model.image_size))


@pytest.mark.parametrize(("name", "size"), [("vgg11", 16), ("inception_v3", 32)])
def test_a_model_that_can_not_take_the_images_is_one_sentence(name: str, size: int) -> None:
    with pytest.raises(UserError, match=rf"{name} can't take images of {size} px: .*Choose anoth"):
        fewest_of(spec(name, size))
