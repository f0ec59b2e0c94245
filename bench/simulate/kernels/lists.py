"""Lists of tensors, indexing, sorts: partial results and copies of indices.

aten/src/ATen/native/cuda, torch 2.11, and the norms of lists of 2.15.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.simulate.kernels.row import Dims, KernelRefused, KernelRow, ceil_div

CHUNK = 65536
"""Numbers that one block of a foreach kernel works on (MultiTensorApply.cuh, kChunkSize)."""

INDEX_COPIES = 4
"""How many index tensors of one indexing are looked at."""

SMALL_SORT = 4096
"""Numbers a row that are sorted in place (Sort.cpp, should_use_small_sort)."""

COMPACT_NORMS = "ForeachReduceOp.cu, foreach_tensor_norm_cuda, pull request 190549"


def _sum_bytes(tensor: Any) -> int:
    """Bytes of a number that a kernel sums in (OpMathType.h, toOpMathType)."""
    return max(4, int(tensor.element_size()))


def _foreach_norm_dims(args: Sequence[Any]) -> Dims:
    """How many tensors the list has, the most chunks of one, bytes of a partial result."""
    tensors = args[0]
    chunks = [ceil_div(int(t.numel()), CHUNK) for t in tensors]
    return len(tensors), max(chunks), _sum_bytes(tensors[0])


def _foreach_chunks(args: Sequence[Any]) -> Dims:
    """How many of the list have numbers, the chunks of all, bytes of a partial result."""
    chunks = [ceil_div(int(t.numel()), CHUNK) for t in args[0]]
    return len(chunks) - chunks.count(0), sum(chunks), _sum_bytes(args[0][0])


def _index_dims(position: int) -> Callable[[Sequence[Any]], Dims | None]:
    """(numbers,) that the `position`-th index is copied to, where the indices broadcast apart."""

    def read(args: Sequence[Any]) -> Dims | None:
        indices = [index for index in args[1] if index is not None]
        if len(indices) < 2 or position >= len(indices):
            return None
        if len({tuple(index.shape) for index in indices}) == 1:
            return None
        extent = [1] * max(index.dim() for index in indices)
        for index in indices:
            for d, size in enumerate(reversed(index.shape)):
                extent[-1 - d] = max(extent[-1 - d], int(size))
        if tuple(indices[position].shape) == tuple(extent):
            return None
        numbers = 1
        for size in extent:
            numbers *= size
        return (numbers,)

    return read


def _sort_dims(args: Sequence[Any]) -> Dims | None:
    """How many numbers a row of a sort has."""
    tensor = args[0]
    dim = next((arg for arg in args[1:] if type(arg) is int), -1)
    numbers = int(tensor.shape[dim]) if tensor.dim() else 1
    if numbers > SMALL_SORT:
        raise KernelRefused(f"a sort of {numbers:,} numbers a row, which can't be predicted")
    return (numbers,) if tensor.numel() else None


LIST_ROWS = (
    KernelRow(
        name="foreach norm: partial results",
        ops=("aten._foreach_norm.Scalar",),
        dims=_foreach_norm_dims,
        size=lambda dims, context: dims[0] * dims[1] * dims[2],
        source="ForeachReduceOp.cu, foreach_tensor_norm_cuda: output_per_tensor",
        before=True,
        under=lambda rules: not rules.norms_by_chunk,
    ),
    KernelRow(
        name="foreach norm: where the partial results of each begin",
        ops=("aten._foreach_norm.Scalar",),
        dims=_foreach_chunks,
        size=lambda dims, context: 8 * (dims[0] + 1),
        source=COMPACT_NORMS,
        before=True,
        under=lambda rules: rules.norms_by_chunk,
    ),
    KernelRow(
        name="foreach norm: a partial result a chunk",
        ops=("aten._foreach_norm.Scalar",),
        dims=_foreach_chunks,
        size=lambda dims, context: dims[1] * dims[2],
        source=COMPACT_NORMS,
        before=True,
        under=lambda rules: rules.norms_by_chunk,
    ),
    KernelRow(
        name="sort: places of a row",
        ops=("aten.sort.default", "aten.sort.stable"),
        dims=_sort_dims,
        size=lambda dims, context: 8 * dims[0],
        source="cuda/Sort.cpp, sort_cuda_kernel: fillSliceWithIndex",
    ),
    *(
        KernelRow(
            name=f"index {position}, broadcast and made contiguous",
            ops=("aten.index.Tensor",),
            dims=_index_dims(position),
            size=lambda dims, context: 8 * dims[0],
            source="TensorAdvancedIndexing.cpp, make_info: indices of unequal strides",
            before=True,
        )
        for position in range(INDEX_COPIES)
    ),
)
