"""Attention rollout: how much of each input token is in each output token, over all layers.

Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3: of every layer the
mean over its heads, the identity added for the residual connection, rows brought back to a sum of
1, and the layers' matrices multiplied, the last one first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.base.errors import UserError


class Rollout:
    """The product so far; a layer is added and may then be let go."""

    def __init__(self) -> None:
        self.product: Tensor | None = None

    def add(self, weights: Tensor) -> None:
        """The next layer's weights (…, heads, tokens, tokens)."""
        mixed = weights.float().mean(dim=-3)
        mixed = mixed + torch.eye(mixed.shape[-1])
        mixed /= mixed.sum(dim=-1, keepdim=True)
        self.product = mixed if self.product is None else mixed @ self.product


def extract_attention_rollout(attention_list: Sequence[Tensor | NDArray[Any]]) -> Tensor:
    """The rollout (…, tokens, tokens) of weights (…, heads, tokens, tokens), one a layer.

    The first layer comes first, as in `AttentionMaps.layers`. Each row adds up to 1. Raises
    `UserError` for no layers, and for those that are not of the same tokens.
    """
    layers = [torch.as_tensor(layer).cpu() for layer in attention_list]
    if not layers:
        raise UserError("A rollout needs the attention of at least one layer.")
    for layer in layers:
        shape = tuple(layer.shape)
        if layer.ndim < 3 or shape[-1] != shape[-2] or shape[-1] != layers[0].shape[-1]:
            raise UserError(
                f"Attention of shape {shape} is not (…, heads, tokens, tokens) with the tokens "
                f"of the first layer, {tuple(layers[0].shape)}."
            )
    rollout = Rollout()
    for layer in layers:
        rollout.add(layer)
    assert rollout.product is not None
    return rollout.product
