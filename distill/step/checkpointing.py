"""Gradient checkpointing: blocks that give up their activations and are run again in backward.

`cheap` keeps what matrix products, convolutions and attention made (`kept_products`) and runs the
rest again: norms, activations, additions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from distill.spec.candidate import Checkpointing
from distill.step.batch_norm import Context, batch_norms, contexts_of
from distill.step.kept_products import NoCheckpointing, contexts_with_products

BLOCK_LISTS = ("blocks", "layer1", "layer2", "layer3", "layer4")
"""Where timm's vision transformers and ResNets keep their blocks, as `nn.Sequential`."""


class CheckpointedBlocks(nn.Sequential):
    """Blocks of which 0, k, 2k, … give up their activations and are run again in backward.

    With `cheap` each does, but for what its products made. Takes the place of the `nn.Sequential`
    that held the same blocks, so keys don't change. `ran` tells whether it was called at all.
    Non-reentrant checkpointing: torch/utils/checkpoint.py, Chen et al. 2016.
    """

    def __init__(self, blocks: nn.Sequential, checkpointing: Checkpointing) -> None:
        super().__init__(*blocks)
        self.keeps_products = checkpointing == "cheap"
        self.every = 1 if checkpointing == "cheap" else checkpointing
        self.holds_norm = [bool(batch_norms(block)) for block in self]
        self.ran = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.ran = self.ran or self.training
        for index, block in enumerate(self):
            if self.training and torch.is_grad_enabled() and index % self.every == 0:
                again = checkpoint(block, x, use_reentrant=False, context_fn=self._contexts(index))
                x = cast(torch.Tensor, again)
            else:
                x = block(x)
        return x

    def _contexts(self, index: int) -> Callable[[], tuple[Context, Context]]:
        """The contexts in which the block runs first, and again in backward."""
        contexts = noop_context_fn
        if self.holds_norm[index]:
            contexts = partial(contexts_of, self[index])
        return partial(contexts_with_products, contexts) if self.keeps_products else contexts


def checkpoint_blocks(model: nn.Module, checkpointing: Checkpointing) -> None:
    """Checkpoint blocks 0, k, 2k, … of each list of blocks; 0 leaves the model alone.

    With `cheap` all of them, each but for what its products made. Without such a list timm's own
    checkpointing is switched on, which knows all blocks or none.
    Raises `NoCheckpointing` where that can't be had.
    """
    if checkpointing != "cheap" and checkpointing < 0:
        raise NoCheckpointing(
            f"Checkpointing {checkpointing} is not possible: 0 is off, k ≥ 1 every k-th block."
        )
    if checkpointing == 0:
        return
    found = False
    for name in BLOCK_LISTS:
        blocks = getattr(model, name, None)
        if isinstance(blocks, nn.Sequential):
            setattr(model, name, CheckpointedBlocks(blocks, checkpointing))
            found = True
    if not found:
        _checkpoint_by_timm(model, checkpointing)


def check_checkpointed(model: nn.Module) -> None:
    """Refuse a model that was trained past what checkpoints its blocks, calling them one by one.

    Raises `NoCheckpointing`.
    """
    passed_by = [part for part in model.modules() if isinstance(part, CheckpointedBlocks)]
    if passed_by and not all(blocks.ran for blocks in passed_by):
        raise NoCheckpointing(
            f"{type(model).__name__} calls its blocks one by one, past what would checkpoint them. "
            "Use checkpointing 0."
        )


def _checkpoint_by_timm(model: nn.Module, checkpointing: Checkpointing) -> None:
    """Let timm checkpoint its blocks, each time with `use_reentrant=False`.

    Batch norm would count each batch twice there, as nothing says that a block runs again.
    """
    from timm.layers.config import set_reentrant_ckpt  # takes seconds; timm built the model

    name = type(model).__name__
    if batch_norms(model):
        raise NoCheckpointing(
            f"{name} has no list of blocks that can be checkpointed, and timm's own checkpointing "
            "counts its batch norms twice. Use checkpointing 0."
        )
    if checkpointing != 1:
        lacks = f"of which every {checkpointing}. can be checkpointed"
        if checkpointing == "cheap":
            lacks = "that can be checkpointed but for their products"
        raise NoCheckpointing(
            f"{name} has no list of blocks {lacks}: timm checkpoints all or none. "
            "Use checkpointing 0 or 1."
        )
    set_reentrant_ckpt(False)
    try:
        cast(Any, model).set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise NoCheckpointing(
            f"{name} has no list of blocks that can be checkpointed, nor a checkpointing of its "
            "own. Use checkpointing 0, or a vision transformer or ResNet."
        ) from error
