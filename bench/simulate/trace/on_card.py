"""Results of an op that its kernel puts on the card, where fake kernels say otherwise.

`_scaled_dot_product_efficient_attention` gives a seed and an offset too, which fake kernels put on
the card. Up to torch 2.13 they are on the CPU unless a graph is captured (attention.cu); from 2.14
on only those of a dropout are, and the others come before all else.
"""

from collections.abc import Sequence
from typing import Any

import torch

from bench.simulate.torch_rules import TorchRules, installed_rules

EFFICIENT = torch.ops.aten._scaled_dot_product_efficient_attention.default


def results_on_card(
    func: Any, args: Sequence[Any], results: Sequence[Any], rules: TorchRules | None = None
) -> Sequence[Any]:
    """The results of a call that are on the card, in the order in which they come there."""
    if func is not EFFICIENT:
        return results
    drops = len(args) > 5 and args[5] > 0
    if drops or not (rules or installed_rules()).seed_on_card:
        return results[:2]
    return (*results[2:], *results[:2])
