"""What a model takes, found out in a moment and without its numbers."""

from dataclasses import replace

import pytest
import torch

from distill.base.errors import UserError
from distill.spec.candidate import Candidate, Checkpointing, InputSpec, ModelSpec
from distill.step.meta_forward import check_trainable, fewest_of
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


@pytest.mark.parametrize(
    ("name", "checkpointing", "words"),
    [
        ("naflexvit_base_patch16_gap", 1, "NaFlexVit calls its blocks one by one"),
        ("naflexvit_base_patch16_gap", "cheap", "NaFlexVit calls its blocks one by one"),
        ("efficientnet_b0", "cheap", "writes to the result of a matrix product"),
        ("swin_tiny_patch4_window7_224", 2, "no list of blocks"),
    ],
)
def test_blocks_that_can_not_be_checkpointed_are_refused_before_anything_is_trained(
    name: str, checkpointing: Checkpointing, words: str
) -> None:
    candidate = one_of(name, checkpointing)
    with pytest.raises(UserError, match=words):
        check_trainable(candidate, compiles=False)
    check_trainable(replace(candidate, checkpointing=0), compiles=False)


@pytest.mark.parametrize("checkpointing", [0, 1, 3, "cheap"])
def test_a_vision_transformer_and_a_resnet_can(checkpointing: Checkpointing) -> None:
    for name in ("vit_tiny_patch16_224", "resnet10t"):
        check_trainable(one_of(name, checkpointing), compiles=True)


def test_a_model_without_blocks_to_compile_is_refused_wherever_it_stands() -> None:
    swin, vit = one_of("swin_tiny_patch4_window7_224"), one_of("vit_tiny_patch16_224")
    for candidate in (swin, replace(vit, teacher=swin.student)):
        with pytest.raises(UserError, match="no list of blocks that could be compiled"):
            check_trainable(candidate, compiles=True)
    check_trainable(replace(vit, teacher=swin.student, teacher_logits="cached"), compiles=True)


def test_layers_whose_order_timm_does_not_know_are_refused_as_early() -> None:
    candidate = replace(one_of("pit_ti_224"), layer_decay=True)
    with pytest.raises(UserError, match="does not know the order of layers in PoolingVision"):
        check_trainable(candidate, compiles=False)
    check_trainable(replace(one_of("vit_tiny_patch16_224"), layer_decay=True), compiles=False)


def one_of(name: str, checkpointing: Checkpointing = 0) -> Candidate:
    return Candidate(
        stage="student",
        student=spec(name, 224),
        teacher=None,
        input=InputSpec(source_size=32),
        micro_batch=2,
        checkpointing=checkpointing,
    )
