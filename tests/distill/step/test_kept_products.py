"""Checkpointing `cheap`: products are made once, the rest twice; the same is learnt."""

import copy
from collections import Counter
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill.step.checkpointing import checkpoint_blocks
from distill.step.kept_products import PRODUCTS, NoCheckpointing

SHAPE = {"img_size": 16, "patch_size": 4, "depth": 3, "embed_dim": 32, "num_heads": 2}


class Calls(TorchDispatchMode):
    """How often each op is called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[object] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count[func] += 1
        return func(*args, **(kwargs or {}))

    def products(self) -> dict[object, int]:
        return {op: count for op, count in self.count.items() if op in PRODUCTS}


def model(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    shape = SHAPE if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=5, **shape, **arguments).train()


def trained(net: nn.Module, images: Tensor) -> tuple[Calls, Calls]:
    """One forward and backward; the calls of each."""
    torch.manual_seed(1)  # what is dropped is drawn
    with Calls() as forward:
        loss = net(images).square().mean()
    with Calls() as backward:
        loss.backward()
    return forward, backward


def both_ways(net: nn.Module, images: Tensor) -> list[tuple[nn.Module, Calls, Calls]]:
    """The model as it is and a copy with checkpointing, each after one step."""
    cheap = copy.deepcopy(net)
    checkpoint_blocks(cheap, "cheap")
    return [(one, *trained(one, images)) for one in (net, cheap)]


def state_after(net: nn.Module) -> dict[str, Tensor]:
    """Gradients and buffers by name."""
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return gradients | dict(net.named_buffers())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True}),
        ("vit_tiny_patch16_224", {"drop_path_rate": 0.5, "proj_drop_rate": 0.3}),
        ("vit_tiny_patch16_224", {"attn_drop_rate": 0.3}),
        ("resnet18", {}),
        ("resnet26d", {"drop_path_rate": 0.5}),
    ],
)
def test_gradients_and_statistics_are_the_plain_steps_to_the_bit(
    name: str, arguments: dict[str, float]
) -> None:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    (plain, *_), (cheap, *_) = both_ways(model(name, **arguments), images)
    expected, found = state_after(plain), state_after(cheap)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_no_product_is_made_twice_and_norms_are(name: str) -> None:
    (_, *plain), (_, *cheap) = both_ways(model(name), torch.randn(2, 3, 16, 16))
    assert [calls.products() for calls in cheap] == [calls.products() for calls in plain]
    norm = torch.ops.aten.native_layer_norm.default
    if name == "resnet18":
        norm = torch.ops.aten.native_batch_norm.default
    assert plain[1].count[norm] == 0 < cheap[1].count[norm] <= plain[0].count[norm]


class Writing(nn.Module):
    """A block whose activation writes to the result of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x).sigmoid_().square()


def test_a_block_that_writes_to_a_product_is_refused_in_a_sentence() -> None:
    """Run again, it would go on from what was written."""
    net = nn.Sequential()
    net.blocks = nn.Sequential(Writing())
    checkpoint_blocks(net, "cheap")
    loss = net.train()(torch.randn(2, 4)).sum()
    with pytest.raises(NoCheckpointing, match="writes to the result of a matrix product or conv"):
        loss.backward()
