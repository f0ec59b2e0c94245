"""The walk from Python does what PyTorch's engine does: same gradients, same ops, same frees."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from bench.simulate.trace.backward import BackwardWalk
from distill.step.models import get_vit_model


class Shared(nn.Module):
    """Reused weights, a view, a broadcast, an unused branch and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x) + self.one(x * 2)
        y = y + self.two(y).relu() * self.scale
        return y.t().reshape(-1, 4) + y[:1]


class Checkpointed(nn.Module):
    """Two blocks that are run again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        return x


def vit() -> nn.Module:
    return get_vit_model(
        "vit_tiny", 4, image_size=8, patch_size=2, depth=2, width=16, heads=2, channels=1
    )


CASES = {
    "shared": (Shared, lambda: torch.randn(8, 4)),
    "checkpointed": (Checkpointed, lambda: torch.randn(8, 4)),
    "vit": (vit, lambda: torch.randn(3, 1, 8, 8)),
    "one image": (vit, lambda: torch.randn(1, 1, 8, 8)),
}


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return F.mse_loss(model(x), torch.zeros(()).expand_as(model(x)))


@pytest.fixture(params=CASES)
def case(request) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, data = CASES[request.param]
    return make().train(), data()


def test_the_gradients_are_the_engines_bit_for_bit(case) -> None:
    model, x = case
    model(x).square().sum().backward()
    engines = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    BackwardWalk().run(model(x).square().sum())
    for parameter, expected in zip(model.parameters(), engines, strict=True):
        assert (parameter.grad is None) == (expected is None)
        if expected is not None:
            assert torch.equal(parameter.grad, expected)
            assert parameter.grad.stride() == expected.stride()


def storages(model: nn.Module) -> list[int]:
    """Bytes that each gradient keeps alive, which is more than its own where it is a view."""
    return [p.grad.untyped_storage().nbytes() for p in model.parameters() if p.grad is not None]


def test_a_leaf_keeps_the_storage_that_the_engine_lets_it_keep(case) -> None:
    model, x = case
    model(x).square().sum().backward()
    engines = storages(model)
    model.zero_grad(set_to_none=True)
    BackwardWalk().run(model(x).square().sum())
    assert storages(model) == engines


def test_gradients_that_are_there_are_added_to(case) -> None:
    model, x = case
    for _ in range(2):
        model(x).square().sum().backward()
    engines = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    for _ in range(2):
        BackwardWalk().run(model(x).square().sum())
    walked = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(engines, walked, strict=True))


def ops_of(run) -> Counter[str]:
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    names = {"aten::add", "aten::add_", "aten::mm", "aten::sum", "aten::clone", "aten::copy_"}
    return Counter(event.name for event in profiler.events() if event.name in names)


def test_it_adds_in_place_exactly_where_the_engine_does(case) -> None:
    """No dispatch mode is active here, so the engine reuses buffers that nobody else holds."""
    model, x = case
    loss = model(x).square().sum()
    engines = ops_of(loss.backward)
    model.zero_grad(set_to_none=True)
    loss = model(x).square().sum()
    walked = ops_of(lambda: BackwardWalk().run(loss))
    assert engines["aten::add_"] == walked["aten::add_"] > 0 or "Checkpointed" in str(type(model))
    assert engines == walked


def test_the_graph_is_gone_afterwards(case) -> None:
    model, x = case
    loss = model(x).square().sum()
    walk = BackwardWalk()
    walk.run(loss)
    assert loss.grad_fn is None
    assert not walk.buffers and not walk.waiting and not walk.ready


def test_a_loss_without_a_graph_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no graph to walk"):
        BackwardWalk().run(torch.ones(()))
