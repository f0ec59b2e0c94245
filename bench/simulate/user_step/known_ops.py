"""Ops whose memory on a card is known: by a row of the kernel table, or because they hide none.

An op shows its results; what its kernels take beside them it does not show. A kernel of PyTorch's
TensorIterator takes nothing (tag `pointwise`), nor does a view, nor a kernel over lists. Other ops
are named here, after each was run on PyTorch's own CUDA code, request by request
(`tests/driver/test_known_ops.py`). All else is refused: its memory would be a guess.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.simulate.kernels import KernelTable
from bench.simulate.kernels.row import KernelRefused
from bench.simulate.program.program import HiddenAllocation

MADE = (
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "zeros"),
    *("zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full"),
    *("scalar_tensor", "arange", "linspace", "rand", "rand_like", "randn", "randn_like"),
    *("randint", "randint_like", "eye", "tril", "triu", "zero_", "fill_", "normal_", "uniform_"),
    *("random_", "bernoulli", "bernoulli_", "exponential_", "set_", "resize_", "lift_fresh"),
)
"""New tensors, and tensors filled anew."""

MOVED = (
    *("_to_copy", "clone", "copy_", "cat", "stack", "repeat", "constant_pad_nd", "flip", "roll"),
    *("index_select", "gather", "scatter", "scatter_", "scatter_add", "scatter_add_"),
    *("masked_fill", "masked_fill_", "select_backward", "slice_backward"),
    *("_unsafe_view", "_reshape_copy", "diagonal_copy", "record_stream", "_local_scalar_dense"),
)
"""Copies from one place to another."""

COMPUTED = (
    *("_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data"),
    *("nll_loss_forward", "nll_loss_backward", "nll_loss2d_forward", "nll_loss2d_backward"),
    *("native_dropout", "native_dropout_backward", "gelu", "gelu_backward", "glu", "glu_backward"),
    *("native_batch_norm", "native_batch_norm_backward", "cudnn_batch_norm"),
    *("cudnn_batch_norm_backward", "max_pool2d_with_indices", "max_pool2d_with_indices_backward"),
    *("avg_pool2d", "avg_pool2d_backward", "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward"),
    *("upsample_nearest2d", "upsample_nearest2d_backward", "upsample_bilinear2d"),
    *("upsample_bilinear2d_backward", "pixel_shuffle", "pixel_unshuffle", "upsample_bicubic2d"),
    *("upsample_bicubic2d_backward", "adaptive_max_pool2d", "adaptive_max_pool2d_backward"),
    *("leaky_relu", "leaky_relu_backward", "hardswish", "hardswish_backward", "mish_backward"),
    *("softplus_backward", "elu_backward", "_prelu_kernel", "_prelu_kernel_backward"),
    *("hardtanh_backward", "hardsigmoid_backward"),
    *("mse_loss_backward", "smooth_l1_loss_backward", "huber_loss_backward", "index_add"),
    *("index_add_", "binary_cross_entropy_backward", "mv"),
    *("_scaled_dot_product_efficient_attention", "_amp_update_scale_"),
    *("_amp_foreach_non_finite_check_and_unscale_",),
)
"""Kernels of their own that take nothing but their results."""

IN_PLACE = (
    *("abs_", "celu_", "elu_", "gelu_", "hardsigmoid_", "hardswish_", "hardtanh_", "leaky_relu_"),
    *("mish_", "selu_", "threshold_"),
)
"""Kernels of TensorIterator that write over their operand, without the tag `pointwise`."""

HIDE_NOTHING = frozenset((*MADE, *MOVED, *COMPUTED, *IN_PLACE))

COPIES = ("aten._to_copy.default", "aten.copy_.default")

LISTS = ("aten._foreach_", "aten._fused_")
"""Ops over lists of tensors, in place or into new ones (ForeachFunctors.cuh)."""

REDUCED_LIST = "aten._foreach_max.default"


class RuledKernels:
    """A kernel table that refuses, by name, what it and `HIDE_NOTHING` do not know."""

    def __init__(self, table: KernelTable) -> None:
        self.table = table

    def __call__(
        self, op: str, args: Sequence[Any], outputs: Sequence[Tensor]
    ) -> list[HiddenAllocation]:
        """The allocations of one call of `op` beyond its outputs.

        Raises `KernelRefused` for an op of which that is not known. What runs on the CPU takes
        nothing of the card.
        """
        if not _touches_card([*args, *outputs]):
            return []
        if op not in self.table.by_op and not hides_nothing(op):
            raise KernelRefused(f"{op} on a card, which has no rule")
        _check_convolution(op, args)
        _check_copy(op, args, outputs)
        return self.table(op, args, outputs)


def _touches_card(values: Sequence[Any]) -> bool:
    for value in values:
        if isinstance(value, Tensor):
            if value.device.type != "cpu":
                return True
        elif isinstance(value, (list, tuple)) and _touches_card(value):
            return True
    return False


@cache
def hides_nothing(op: str) -> bool:
    """True if the op's kernels take nothing beside its results: a name with its overload."""
    namespace, name, overload = op.split(".")
    if namespace in ("prim", "profiler"):
        return True
    if namespace not in ("aten", "prims"):
        return False
    if name in HIDE_NOTHING:
        return True
    if op.startswith(LISTS):
        return op != REDUCED_LIST
    found = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return torch.Tag.pointwise in found.tags or _is_view(found)


def _is_view(op: Any) -> bool:
    """True if every result is a part of an operand that is not written."""
    returns = [result.alias_info for result in op._schema.returns]
    return bool(returns) and all(alias is not None and not alias.is_write for alias in returns)


def _check_copy(op: str, args: Sequence[Any], outputs: Sequence[Tensor]) -> None:
    """Refuse a copy between host and card for which PyTorch makes another on the card.

    cuda/Copy.cu, copy_requires_temporaries and copy_kernel_cuda, 2.11.
    """
    if op not in COPIES:
        return
    to, source = (outputs[0], args[0]) if op == COPIES[0] else (args[0], args[1])
    if to.device.type == source.device.type or (
        to.dtype == source.dtype and _strides(to) == _strides(source)
    ):
        return
    on_card = source if to.device.type == "cpu" else to
    if not on_card.is_contiguous():
        raise KernelRefused(
            "a copy between host and card that puts numbers in another order, which has no rule: "
            "copy first, then reorder on the card"
        )


def _strides(tensor: Tensor) -> list[int]:
    """How far apart neighbours lie, where there are any."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return [stride for size, stride in pairs if size > 1]


def _check_convolution(op: str, args: Sequence[Any]) -> None:
    """Refuse convolutions for whose workspace there is no row."""
    if op not in ("aten.convolution.default", "aten.convolution_backward.default"):
        return
    first = 0 if op == "aten.convolution.default" else 1
    image, rest = args[first], args[first + 3 :]
    transposed = rest[3]
    if image.dim() != 4 or transposed:
        what = "a transposed convolution" if transposed else f"a {image.dim() - 2}-d convolution"
        raise KernelRefused(f"{what}, whose workspace has no rule")
