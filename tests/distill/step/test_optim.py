"""Schedules and groups."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.step.models import get_vit_model
from distill.step.optim import cosine_factor, make_optimizer


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
