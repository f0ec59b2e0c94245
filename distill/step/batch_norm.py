"""Batch norm: the layer whose answer to an image depends on the images beside it.

A block with it must not count its batch twice when it is run again, and in training some models
take no image that is alone.
"""

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Context = contextlib.AbstractContextManager[None]


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norm's running statistics stay as they are, though the block runs a second time."""
    norms = batch_norms(block)
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def contexts_of(block: nn.Module) -> tuple[Context, Context]:
    """The contexts in which a checkpointed block runs first, and again in backward."""
    return contextlib.nullcontext(), _statistics_kept(block)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers of batch norm in a module."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def sees_its_batch(model: nn.Module) -> bool:
    """True if the answer to an image depends on those beside it (batch norm)."""
    return bool(batch_norms(model))
