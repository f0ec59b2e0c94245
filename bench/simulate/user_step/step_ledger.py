"""A ledger for users' steps: what a fake tensor does not show of their ops."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.simulate.kernels.composed import SHRUNK_LOSSES, is_reduced
from bench.simulate.program.program import HiddenAllocation
from bench.simulate.trace.costs import name_of
from bench.simulate.trace.ledger import Ledger

ATEN = torch.ops.aten
DETACH = ATEN.detach.default
DROPOUT = ATEN.native_dropout.default
SAFE_SOFTMAX = ATEN._safe_softmax.default


class StepLedger(Ledger):
    """A ledger that knows the order of dropout's results, a loss that keeps the memory of all
    numbers, and the ops of a softmax over rows that may be masked.

    A detached tensor is nothing new: `release` detaches what it lets go, and attention's seed,
    which fake kernels place on the card and a card does not, would be born by that.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is SAFE_SOFTMAX and args[0].device.type == self.device_type:
            with self:
                return _safe_softmax(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _is_new(self, tensor: Tensor, func: Any) -> bool:
        return func is not DETACH and super()._is_new(tensor, func)

    def _born_in_order(
        self,
        func: Any,
        args: Sequence[Any],
        results: Sequence[Any],
        hidden: Sequence[HiddenAllocation],
    ) -> list[tuple[int, int | None]]:
        """Dropout's mask comes before its result (cuda/Dropout.cu, dropout_cuda, 2.11)."""
        ordered = results[::-1] if func is DROPOUT else results
        return super()._born_in_order(func, args, ordered, hidden)

    def _born(self, tensor: Tensor, func: Any, args: Sequence[Any]) -> None:
        """A loss is made for every number, then shrunk to one (native/Loss.cpp, 2.11)."""
        super()._born(tensor, func, args)
        name = name_of(func)
        if name in SHRUNK_LOSSES and is_reduced(name, args):
            index = self.live[tensor.untyped_storage()._cdata]
            self.births[index].size_bytes = args[0].numel() * args[0].element_size()


def _safe_softmax(scores: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """What the op is made of; zeros go into masked rows in place.

    native/transformers/attention.cpp, _safe_softmax, 2.11.
    """
    if dtype is not None:
        scores = scores.to(dtype)
    out = ATEN._softmax.default(scores, dim, False)
    masked = ATEN.eq.Scalar(scores, -torch.inf)
    rows = ATEN.all.dim(masked, dim, True)
    zero = ATEN.scalar_tensor.default(0.0, dtype=out.dtype, device=out.device)
    del masked, rows, zero  # they all live to the end
    return out
