"""Models are timm's, in the shape asked for; checkpointing changes memory and nothing else."""

import copy

import pytest
import timm
import torch

from distill.base.errors import UserError
from distill.step.models import (
    CheckpointedBlocks,
    checkpoint_blocks,
    get_vit_model,
    normalisation_of,
    parameter_count,
)

SMALL = {"image_size": 8, "patch_size": 2, "depth": 5, "width": 16, "heads": 2}


@pytest.mark.parametrize(
    ("alias", "millions"), [("vit_base", 85.8), ("vit_small", 21.7), ("vit_tiny", 5.5)]
)
def test_the_three_sizes(alias: str, millions: float) -> None:
    with torch.device("meta"):
        model = get_vit_model(alias, 10)
    assert parameter_count(model) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("every", [1, 2, 3, True])
def test_checkpointing_keeps_keys_outputs_and_gradients(every: int) -> None:
    torch.manual_seed(0)
    plain = get_vit_model("vit_tiny", 10, **SMALL).train()
    checkpointed = get_vit_model("vit_tiny", 10, gradient_checkpointing=every, **SMALL).train()
    assert plain.state_dict().keys() == checkpointed.state_dict().keys()
    checkpointed.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 8, 8)
    for model in (plain, checkpointed):
        model(images).square().sum().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_every_kth_block_is_run_again_in_backward() -> None:
    model = get_vit_model("vit_tiny", 10, gradient_checkpointing=2, **SMALL).train()
    runs = [0] * 5
    for index, block in enumerate(model.blocks):
        block.register_forward_pre_hook(
            lambda *_, index=index: runs.__setitem__(index, runs[index] + 1)
        )
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert runs == [2, 1, 2, 1, 2]


def test_a_checkpointed_model_can_be_copied() -> None:
    """Patching `forward` would make the copy run the original's weights."""
    model = get_vit_model("vit_tiny", 10, gradient_checkpointing=1, **SMALL).train()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(torch.randn(1, 3, 8, 8)).any()


def test_resnets_are_checkpointed_too() -> None:
    model = get_vit_model("resnet18", 10, gradient_checkpointing=1)
    assert isinstance(model.layer1, CheckpointedBlocks)
    assert (
        model.state_dict().keys()
        == timm.create_model("resnet18", num_classes=10).state_dict().keys()
    )


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (
            "vit_tiny_patch16_223",
            {},
            "timm has no model 'vit_tiny_patch16_223'. Close: vit_tiny_patch16_224",
        ),
        ("resnet18", {"depth": 3}, "resnet18 can't be built with"),
        ("vit_tiny", {"width": 10, "heads": 3}, "can't be built with"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, shape: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        get_vit_model(name, 10, **shape)


def test_a_model_without_blocks_cannot_be_checkpointed() -> None:
    with pytest.raises(UserError, match="no list of blocks"):
        get_vit_model("vgg11", 10, gradient_checkpointing=1)


def test_normalisation_is_the_models_own() -> None:
    with torch.device("meta"):
        vit, resnet = get_vit_model("vit_tiny", 10), get_vit_model("resnet18", 10)
    assert normalisation_of(vit, 3).mean == (0.5, 0.5, 0.5)
    assert normalisation_of(resnet, 3).std == (0.229, 0.224, 0.225)
    assert len(normalisation_of(resnet, 1).mean) == 1


def test_a_block_that_runs_twice_moves_batch_norms_statistics_once() -> None:
    torch.manual_seed(0)
    plain = get_vit_model("resnet18", 10)
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed, 1)
    images = torch.rand(2, 3, 32, 32)
    for model in (plain, checkpointed):
        model.train()(images).sum().backward()
    for (name, there), here in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(there, here), name
    for there, here in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(there.grad, here.grad)
