"""Schedules and groups."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.base.errors import UserError
from distill.step.models import get_vit_model
from distill.step.optim import (
    cosine_factor,
    learning_rate_of,
    make_optimizer,
    set_learning_rate,
)


@given(st.integers(0, 50), st.integers(51, 500), st.integers(0, 500))
def test_the_schedule_stays_between_0_and_1(warmup: int, total: int, update: int) -> None:
    factor = cosine_factor(min(update, total - 1), warmup_updates=warmup, total_updates=total)
    assert 0 < factor <= 1


def test_it_warms_up_in_a_line_and_falls_along_a_cosine() -> None:
    factors = [cosine_factor(u, warmup_updates=4, total_updates=12) for u in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[8] == 0.5
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_biases_and_norms_are_not_decayed() -> None:
    model = get_vit_model("vit_tiny", 10, image_size=8, patch_size=2, depth=1, width=16, heads=2)
    optimizer = make_optimizer(
        model, kind="adamw", learning_rate=1e-3, weight_decay=0.05, implementation="foreach"
    )
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.05 and all(p.ndim > 1 for p in decayed["params"])
    assert free["weight_decay"] == 0 and all(p.ndim <= 1 for p in free["params"])
    assert isinstance(optimizer, torch.optim.AdamW)


def test_a_layer_learns_slower_than_the_one_above_it_by_the_decay() -> None:
    model = get_vit_model("vit_tiny", 10, image_size=8, patch_size=2, depth=3, width=16, heads=2)
    optimizer = make_optimizer(
        model,
        kind="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        implementation="foreach",
        layer_decay=0.5,
    )
    set_learning_rate(optimizer, 0.08)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    blocks = [rates[id(block.mlp.fc1.weight)] for block in model.blocks]
    assert blocks == pytest.approx([0.01, 0.02, 0.04])
    assert rates[id(model.patch_embed.proj.weight)] == pytest.approx(0.005)
    assert rates[id(model.head.weight)] == learning_rate_of(optimizer) == 0.08
    assert len(rates) == len(list(model.parameters()))
    decays = {p.ndim > 1: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {True: 0.05, False: 0.0}


def test_layers_that_nobody_knows_the_order_of_are_refused() -> None:
    with pytest.raises(UserError, match="does not know the order of layers in Linear"):
        make_optimizer(
            torch.nn.Linear(2, 2),
            kind="sgd",
            learning_rate=1e-3,
            weight_decay=0,
            implementation="plain",
            layer_decay=0.5,
        )
