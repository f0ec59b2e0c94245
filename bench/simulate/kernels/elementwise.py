"""Sums and layer norm: partial results, and copies in order.

aten/src/ATen/native/cuda, torch 2.11.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.simulate.kernels.reductions import Gpu, Operand, Scratch, scratch
from bench.simulate.kernels.row import Dims, KernelContext, KernelRow, ceil_div
from bench.simulate.torch_rules import TorchRules

SUMS = (
    "aten.sum.dim_IntList",
    "aten.mean.dim",
    "aten.sum.default",
    "aten.mean.default",
    "aten.linalg_vector_norm.default",
)
REDUCE = "Reduce.cuh, gpu_reduce_kernel"
LAYER_NORM_ROWS = 64 * 1024

# -- sums


def operand_dims(tensor: Any, reduced: Sequence[int] | None) -> Dims:
    """A reduction's operand as numbers: how many dimensions, sizes, strides, which go, …"""
    count = tensor.dim()
    gone = {d % count for d in reduced} if reduced else set(range(count))
    return (
        count,
        *(int(size) for size in tensor.shape),
        *(int(stride) for stride in tensor.stride()),
        *(int(d in gone) for d in range(count)),
        tensor.element_size(),
        int(tensor.storage_offset()),
    )


def contiguous_dims(tensor: Any) -> Dims | None:
    """All of a tensor, as it would lie in the order of its dimensions, as a reduction's operand."""
    numbers = int(tensor.numel())
    return (1, numbers, 1, 1, tensor.element_size(), 0) if tensor.dim() else None


def _operand(dims: Dims) -> Operand:
    count = dims[0]
    parts = [dims[1 + count * i : 1 + count * (i + 1)] for i in range(3)]
    return Operand(
        sizes=parts[0],
        strides=parts[1],
        reduced=tuple(bool(flag) for flag in parts[2]),
        item_bytes=dims[-2],
        offset=dims[-1],
    )


def _sum_dims(args: Sequence[Any]) -> Dims | None:
    """The operand of a sum, mean or norm: reduced are the dimensions that are listed, or all."""
    listed = next((arg for arg in args[1:] if isinstance(arg, (list, tuple))), None)
    if not args[0].dim():
        return None
    found = operand_dims(args[0], listed)
    return found if _counted_dims(args) is None else _widened(found)


def _counted_dims(args: Sequence[Any]) -> Dims | None:
    """How many whole numbers or truth values are made 64 bits wide before they are added up."""
    tensor = args[0]
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    return (int(tensor.numel()),) if whole and tensor.element_size() < 8 else None


def _widened(dims: Dims) -> Dims:
    """An operand's numbers with 64 bits each, which lie as before."""
    return (*dims[:-2], 8, 0)


def _bias_sum_dims(args: Sequence[Any]) -> Dims | None:
    """The bias gradient of a convolution: grad_output over all but its channels."""
    return operand_dims(args[0], (0, 2, 3)) if args[10][2] and args[0].dim() == 4 else None


Accumulator = Callable[[int, TorchRules], int]
"""Bytes of a reduction's accumulator, from those of a number."""


def at_least(least_bytes: int) -> Accumulator:
    """An accumulator as large as a number, or as `least_bytes` if that is more."""
    return lambda item_bytes, rules: max(least_bytes, item_bytes)


LEAST_4 = at_least(4)


def _scratch(dims: Dims, context: KernelContext, accumulator: Accumulator = LEAST_4) -> Scratch:
    target = context.target
    gpu = Gpu(target.multiprocessors, target.threads_per_multiprocessor)
    operand = _operand(dims)
    accumulator_bytes = accumulator(operand.item_bytes, context.rules)
    return scratch(operand, gpu, accumulator_bytes=accumulator_bytes)


def reduction_rows(
    what: str,
    ops: tuple[str, ...],
    dims: Callable[[Sequence[Any]], Dims | None],
    accumulator: Accumulator = LEAST_4,
) -> tuple[KernelRow, KernelRow]:
    """The scratch of a reduction."""
    return (
        KernelRow(
            name=f"{what}: partial results",
            ops=ops,
            dims=dims,
            size=lambda dims, context: _scratch(dims, context, accumulator).partials,
            source=f"{REDUCE}: global_memory_size()",
        ),
        KernelRow(
            name=f"{what}: semaphores",
            ops=ops,
            dims=dims,
            size=lambda dims, context: _scratch(dims, context).semaphores,
            source=f"{REDUCE}: semaphore_size()",
        ),
    )


# -- layer norm


def _layer_norm_dims(args: Sequence[Any]) -> Dims | None:
    """Rows, columns, and bytes of a number of the weight: (grad, input, shape, mean, …, weight).

    Without a weight there is no gradient of it to add up.
    """
    if args[5] is None:
        return None
    columns = 1
    for size in args[2]:
        columns *= int(size)
    return int(args[1].numel()), columns, args[5].element_size()


def _layer_norm_blocks(dims: Dims, context: KernelContext) -> int:
    """Blocks that share the rows; 0 where one pass does (LaunchGammaBetaBackwardCUDAKernel)."""
    numbers, columns, _ = dims
    rows = numbers // columns
    if rows <= LAYER_NORM_ROWS or columns // 32 >= context.target.multiprocessors // 2:
        return 0
    return min(32768 // ceil_div(columns, 32), ceil_div(rows, 32))


def _layer_norm_partials(dims: Dims, context: KernelContext) -> int:
    _, columns, item_bytes = dims
    return _layer_norm_blocks(dims, context) * columns * item_bytes


def _layer_norm_sum(dims: Dims, context: KernelContext) -> int:
    """The scratch of summing the partial results over their blocks."""
    blocks = _layer_norm_blocks(dims, context)
    _, columns, item_bytes = dims
    if not blocks:
        return 0
    return _scratch((2, blocks, columns, columns, 1, 1, 0, item_bytes, 0), context).partials


def _copy_of(position: int) -> Callable[[Sequence[Any]], Dims]:
    """Bytes of the `position`-th argument if it does not lie in the order of its dimensions."""

    def read(args: Sequence[Any]) -> Dims:
        tensor = args[position]
        return (0 if tensor.is_contiguous() else tensor.numel() * tensor.element_size(),)

    return read


def _layer_norm_row(
    what: str, size: Callable[[Dims, KernelContext], int], outlives: int | None
) -> KernelRow:
    return KernelRow(
        name=f"layer norm backward: {what}",
        ops=("aten.native_layer_norm_backward.default",),
        dims=_layer_norm_dims,
        size=size,
        outlives=outlives,
        source="layer_norm_kernel.cu, LaunchGammaBetaBackwardCUDAKernel: only above 65,536 rows",
    )


LAYER_NORM_COPIES = (
    KernelRow(
        name="layer norm: input in order",
        ops=("aten.native_layer_norm.default",),
        dims=_copy_of(0),
        source="layer_norm_kernel.cu, layer_norm_cuda: input.expect_contiguous()",
        before=True,
    ),
    KernelRow(
        name="layer norm backward: input in order",
        ops=("aten.native_layer_norm_backward.default",),
        dims=_copy_of(1),
        source="layer_norm_kernel.cu, layer_norm_backward_cuda: input.expect_contiguous()",
        before=True,
    ),
    KernelRow(
        name="layer norm backward: gradient in order",
        ops=("aten.native_layer_norm_backward.default",),
        dims=_copy_of(0),
        source="layer_norm_kernel.cu, LayerNormBackwardKernelImpl: dY.contiguous()",
    ),
)

ELEMENTWISE_ROWS = (
    KernelRow(
        name="sum: whole numbers made wide",
        ops=("aten.sum.dim_IntList", "aten.sum.default"),
        dims=_counted_dims,
        size=lambda dims, context: 8 * dims[0],
        source="native/ReduceOpsUtils.h, make_reduction_from_ty: self.to(int64)",
    ),
    *reduction_rows("sum", SUMS, _sum_dims),
    *reduction_rows(
        "convolution's bias gradient", ("aten.convolution_backward.default",), _bias_sum_dims
    ),
    *LAYER_NORM_COPIES,
    _layer_norm_row("partial dgamma", _layer_norm_partials, None),
    _layer_norm_row("partial dbeta", _layer_norm_partials, None),
    _layer_norm_row("sum of dgamma", _layer_norm_sum, 0),
    _layer_norm_row("sum of dbeta", _layer_norm_sum, 0),
)
