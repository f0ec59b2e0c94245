"""Optimizers and learning-rate schedules."""

import math
from typing import Any

import torch
from torch import nn

from distill.base.errors import UserError
from distill.spec.candidate import Implementation, Optimizer
from distill.spec.training import Training

MOMENTUM = 0.9


def make_optimizer(
    model: nn.Module,
    *,
    kind: Optimizer,
    learning_rate: float,
    weight_decay: float,
    implementation: Implementation,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """AdamW, Adam, or SGD with momentum 0.9; biases and norms (vectors) are not decayed.

    `fused` is one kernel for all, `foreach` needs a list of temporaries as large as the
    parameters, `plain` loops (torch/optim/adam.py, sgd.py); each group's turn comes after the
    other's. With `layer_decay` each layer has groups of its own, the lower the slower.
    """
    groups = (
        _by_decay(model, weight_decay)
        if layer_decay is None
        else _by_layer(model, weight_decay, layer_decay)
    )
    fused, foreach = implementation == "fused", implementation == "foreach"
    if kind == "sgd":
        return torch.optim.SGD(
            groups, lr=learning_rate, momentum=MOMENTUM, fused=fused, foreach=foreach
        )
    adam = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return adam(groups, lr=learning_rate, fused=fused, foreach=foreach)


def cosine_factor(update: int, *, warmup_updates: int, total_updates: int) -> float:
    """The learning rate of 0-based `update` as a fraction of its peak.

    Rises linearly over the warm-up, then falls along half a cosine, to 0 after the last
    update (Loshchilov & Hutter 2017, without restarts).
    """
    if update < warmup_updates:
        return (update + 1) / warmup_updates
    progress = (update - warmup_updates) / max(1, total_updates - warmup_updates)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def step_factor(update: int, *, warmup_updates: int, step_updates: int, factor: float) -> float:
    """The learning rate of 0-based `update` as a fraction of its peak, falling in steps.

    Rises linearly over the warm-up; times `factor` after every `step_updates`, counted from 0.
    """
    if update < warmup_updates:
        return (update + 1) / warmup_updates
    return factor ** (update // step_updates)


def learning_rate_at(update: int, training: Training, updates_per_epoch: int) -> float:
    """The learning rate of 0-based `update`: a function of its place alone."""
    warmup_updates = round(training.warmup_epochs * updates_per_epoch)
    if training.schedule == "step":
        step_epochs = training.step_epochs or -(-training.epochs // 3)
        fraction = step_factor(
            update,
            warmup_updates=warmup_updates,
            step_updates=step_epochs * updates_per_epoch,
            factor=training.step_factor,
        )
    else:
        fraction = cosine_factor(
            update,
            warmup_updates=warmup_updates,
            total_updates=training.epochs * updates_per_epoch,
        )
    return training.learning_rate * fraction


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` from the next update on, in each group times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate now: that of the head, where the layers below it are slower."""
    return float(max(group["lr"] for group in optimizer.param_groups))


def check_layers_known(model: nn.Module) -> None:
    """Raise `UserError` where timm does not know the order of the model's layers."""
    if not hasattr(model, "group_matcher"):
        raise UserError(
            f"timm does not know the order of layers in {type(model).__name__}, so their learning "
            "rates can't decay. Leave layer_decay out of this stage."
        )


def _by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices, which are decayed, and vectors, which are not."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, weight_decay), (free, 0.0))
        if parameters
    ]


def _by_layer(model: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """The same for each layer as timm counts them; one below another is slower by `layer_decay`.

    Raises `UserError` where timm does not know them.
    """
    from timm.optim._param_groups import (  # takes seconds; timm built the model
        param_groups_layer_decay,
    )

    check_layers_known(model)
    return list(param_groups_layer_decay(model, weight_decay=weight_decay, layer_decay=layer_decay))
