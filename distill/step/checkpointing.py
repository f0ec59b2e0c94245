"""Gradient checkpointing: blocks that give up their activations and are run again in backward."""

from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from distill.base.errors import UserError
from distill.step.batch_norm import batch_norms, contexts_of

BLOCK_LISTS = ("blocks", "layer1", "layer2", "layer3", "layer4")
"""Where timm's vision transformers and ResNets keep their blocks, as `nn.Sequential`."""


class NoCheckpointing(UserError):
    """A model that can't be checkpointed as asked for."""


class CheckpointedBlocks(nn.Sequential):
    """Blocks of which 0, k, 2k, … give up their activations and are run again in backward.

    Takes the place of the `nn.Sequential` that held the same blocks, so keys don't change.
    Non-reentrant checkpointing: torch/utils/checkpoint.py, Chen et al. 2016.
    """

    def __init__(self, blocks: nn.Sequential, every: int) -> None:
        super().__init__(*blocks)
        self.every = every
        self.holds_norm = [bool(batch_norms(block)) for block in self]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self):
            if self.training and torch.is_grad_enabled() and index % self.every == 0:
                contexts = (
                    partial(contexts_of, block) if self.holds_norm[index] else noop_context_fn
                )
                again = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
                x = cast(torch.Tensor, again)
            else:
                x = block(x)
        return x


def checkpoint_blocks(model: nn.Module, every: int) -> None:
    """Checkpoint blocks 0, k, 2k, … of each list of blocks; k = 0 leaves the model alone.

    Without such a list timm's own checkpointing is switched on, which knows all blocks or none.
    Raises `NoCheckpointing` where that can't be had.
    """
    if every < 0:
        raise NoCheckpointing(
            f"Checkpointing {every} is not possible: 0 is off, k ≥ 1 every k-th block."
        )
    if every == 0:
        return
    found = False
    for name in BLOCK_LISTS:
        blocks = getattr(model, name, None)
        if isinstance(blocks, nn.Sequential):
            setattr(model, name, CheckpointedBlocks(blocks, every))
            found = True
    if not found:
        _checkpoint_by_timm(model, every)


def _checkpoint_by_timm(model: nn.Module, every: int) -> None:
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
    if every != 1:
        raise NoCheckpointing(
            f"{name} has no list of blocks of which every {every}. can be checkpointed: timm "
            "checkpoints all or none. Use checkpointing 0 or 1."
        )
    set_reentrant_ckpt(False)
    try:
        cast(Any, model).set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise NoCheckpointing(
            f"{name} has no list of blocks that can be checkpointed, nor a checkpointing of its "
            "own. Use checkpointing 0, or a vision transformer or ResNet."
        ) from error
