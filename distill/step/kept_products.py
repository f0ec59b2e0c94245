"""Selective checkpointing: what is dear to make is kept, what is cheap is made again in backward.

PyTorch's own (`create_selective_checkpoint_contexts`): while a block runs, a dispatch mode keeps
the results of the products below; as it runs again, another gives them out in the same order, and
no product is run twice. They live until the block's last gradient is made.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    create_selective_checkpoint_contexts,
)

from distill.base.errors import UserError
from distill.step.batch_norm import Context

_aten = torch.ops.aten

PRODUCTS = frozenset(
    {
        *(_aten.mm.default, _aten.addmm.default, _aten.bmm.default, _aten.baddbmm.default),
        _aten.convolution.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_fused_attention_overrideable.default,
        *(_aten._flash_attention_forward.default, _aten._efficient_attention_forward.default),
    }
)
"""Ops whose results are kept: matrix products, convolutions, attention. `linear`, `matmul`,
`einsum` and attention by PyTorch's formula come down to these (native_functions.yaml, 2.11)."""

_MUTATED = "has been mutated"
"""How `_VersionWrapper.get_val` says that a kept tensor was written to (torch 2.11)."""


class NoCheckpointing(UserError):
    """A model that can't be checkpointed as asked for."""


def contexts_with_products(
    contexts: Callable[[], tuple[Context, Context]],
) -> tuple[Context, Context]:
    """The contexts in which a block runs first and again, the products' results kept for it.

    `contexts` gives those that the block needs besides. A block that writes to a product's result
    makes `NoCheckpointing` rise in backward: run again it would start from what was written.
    """
    keeping, giving = create_selective_checkpoint_contexts(_policy)
    first, again = contexts()
    return _both(first, keeping), _both(again, giving)


def _policy(
    context: SelectiveCheckpointContext, op: object, *args: Any, **kwargs: Any
) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in PRODUCTS else CheckpointPolicy.PREFER_RECOMPUTE


@contextlib.contextmanager
def _both(outer: Context, mode: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    """Both at once; a kept result that was written to is told as what it is."""
    try:
        with outer, mode:
            yield
    except RuntimeError as error:
        if _MUTATED not in str(error):
            raise
        raise NoCheckpointing(
            "A block of this model writes to the result of a matrix product or convolution, which "
            "checkpointing cheap would have to keep. Use checkpointing 0 or 1."
        ) from error
