"""Models are timm's, in the shape asked for; checkpointing changes memory and nothing else."""

import copy

import pytest
import timm
import torch

from distill.base.errors import UserError
from distill.spec.candidate import Checkpointing
from distill.step.checkpointing import CheckpointedBlocks, NoCheckpointing, checkpoint_blocks
from distill.step.models import get_vit_model, normalisation_of, parameter_count

SMALL = {"image_size": 8, "patch_size": 2, "depth": 5, "width": 16, "heads": 2}


@pytest.mark.parametrize(
    ("alias", "millions"), [("vit_base", 85.8), ("vit_small", 21.7), ("vit_tiny", 5.5)]
)
def test_the_three_sizes(alias: str, millions: float) -> None:
    with torch.device("meta"):
        model = get_vit_model(alias, 10)
    assert parameter_count(model) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("every", [1, 2, 3, True, "cheap"])
def test_checkpointing_keeps_keys_outputs_and_gradients(every: Checkpointing) -> None:
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
            "timm has no model 'vit_tiny_patch16_223'. Did you mean vit_tiny_patch16_224",
        ),
        ("resnet18", {"depth": 3}, "resnet18 can't be built with"),
        ("vit_tiny", {"width": 10, "heads": 3}, "can't be built with"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, shape: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        get_vit_model(name, 10, **shape)


@pytest.mark.parametrize(
    ("name", "every", "sentence"),
    [
        ("vgg11", 1, "VGG has no list of blocks that can be checkpointed, nor a checkpointing of"),
        ("regnety_002", 1, "timm's own checkpointing counts its batch norms twice. Use check"),
        ("convnext_atto", 2, "timm checkpoints all or none. Use checkpointing 0 or 1"),
        ("convnext_atto", "cheap", "for their products: timm checkpoints all or none. Use"),
        ("convnext_atto", -1, "Checkpointing -1 is not possible"),
    ],
)
def test_a_model_that_cannot_be_checkpointed_says_why(
    name: str, every: Checkpointing, sentence: str
) -> None:
    with torch.device("meta"), pytest.raises(NoCheckpointing, match=sentence):
        get_vit_model(name, 10, gradient_checkpointing=every)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "num_heads": (1, 1), "img_size": 32}),
        ("beit_base_patch16_224", {"depth": 2, "num_heads": 2, "img_size": 32}),
        ("eva02_tiny_patch14_224", {"depth": 2, "num_heads": 2, "img_size": 28}),
        ("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 16, 16)}),
    ],
)
def test_where_no_list_can_be_walked_timm_checkpoints(name: str, shape: dict) -> None:
    """The same gradients and answers, and less kept for backward."""
    size = shape.get("img_size", 32)
    width = {"embed_dim": 16} if "dims" not in shape else {}
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=4, **shape, **width).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed, 1)
    images, kept = torch.randn(2, 3, size, size), []
    for model in (plain, checkpointed):
        here: list[int] = []

        def count(tensor: torch.Tensor, here: list[int] = here) -> torch.Tensor:
            here.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(images).square().sum().backward()
        kept.append(sum(here))
    assert kept[1] < 0.75 * kept[0]
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    with torch.inference_mode():
        assert torch.equal(plain.eval()(images), checkpointed.eval()(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", 64),
        ("beit_base_patch16_224", 32),
        ("eva02_tiny_patch14_224", 28),
        ("mixer_s32_224", 32),
        ("deit_tiny_patch16_224", 32),
        ("resnet18", 32),
        ("convnext_atto", 32),
        ("regnety_002", 32),
        ("efficientnet_b0", 32),
        ("levit_128s", 64),
        ("mobilevit_xxs", 64),
    ],
)
def test_a_model_is_built_at_the_size_of_the_images_if_its_constructor_takes_one(
    name: str, size: int
) -> None:
    with torch.device("meta"):
        model = get_vit_model(name, 10, image_size=size)
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_a_size_that_can_not_be_built_is_one_sentence() -> None:
    with torch.device("meta"), pytest.raises(UserError, match="nest_tiny can't be built with"):
        get_vit_model("nest_tiny", 10, image_size=30)


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


def test_patches_are_left_out_in_training_alone() -> None:
    torch.manual_seed(0)
    plain = get_vit_model("vit_tiny", 10, **SMALL)
    dropping = get_vit_model("vit_tiny", 10, patch_drop_rate=0.75, **SMALL)
    dropping.load_state_dict(plain.state_dict())
    images, seen = torch.randn(2, 3, 8, 8), []
    dropping.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    dropping.train()(images)
    assert torch.equal(dropping.eval()(images), plain.eval()(images))
    assert seen == [1 + 4, 1 + 16]  # the class token, and a quarter of the patches or all


@pytest.mark.parametrize("name", ["resnet18", "hiera_tiny_224"])
def test_a_model_that_can_not_leave_patches_out_is_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=f"{name} can't leave patches out"):
        get_vit_model(name, 10, patch_drop_rate=0.5)
