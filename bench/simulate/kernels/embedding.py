"""Embeddings: copies of indices, and the sort by which many tokens' gradients are added up.

aten/src/ATen/native/cuda/Embedding.cu and EmbeddingBackwardKernel.cu, torch 2.11. Temporary storage
of CUB's sort, unique and scan is not in PyTorch's source: its formulas are those of CUB's policies,
with the tiles that PyTorch's binary shows for compute capability 8.6 and 8.9 (`tests/driver/`).
Other capabilities have other tiles, which makes a difference of 0.3 bytes a token at most.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.simulate.kernels.row import (
    Dims,
    KernelContext,
    KernelRefused,
    KernelRow,
    ceil_div,
    round_up,
)

FORWARD = ("aten.embedding.default",)
BACKWARD = ("aten.embedding_dense_backward.default",)

FEW_TOKENS = 3072
"""So many are added up by one kernel, without a sort (embedding_dense_backward_cuda)."""

ROWS_A_THREAD = 10
"""NROWS_PER_THREAD of EmbeddingBackwardKernel.cu."""

FEW_ROWS_A_MULTIPROCESSOR = 4
"""With fewer rows the binary goes another way; so it is on 20 multiprocessors, below 80 rows."""

INDEX_BYTES = 8
CUB_ALIGNMENT = 256
SORT_TILE, UNIQUE_TILE, SCAN_TILE = 3840, 320, 896
KEY_BITS = 64
BINS_BYTES = 256 * 8
"""Of one pass over eight bits of the keys: a counter of 64 bits for each value."""


def _copied_indices(position: int) -> Callable[[Sequence[Any]], Dims | None]:
    """Bytes of the `position`-th argument, an index, if it can't be seen as one row."""

    def read(args: Sequence[Any]) -> Dims | None:
        indices = args[position]
        if indices.dim() < 2 or indices.is_contiguous():
            return None
        return (int(indices.numel()) * indices.element_size(),)

    return read


def _copied_gradient(args: Sequence[Any]) -> Dims | None:
    grad = args[0]
    return None if grad.is_contiguous() else (int(grad.numel()) * grad.element_size(),)


def _many(args: Sequence[Any]) -> Dims | None:
    """(tokens, rows of the weight, numbers a row), where the tokens are sorted.

    Raises `KernelRefused` for a gradient scaled by frequency, and for indices of 32 bits.
    """
    grad, indices, rows = args[0], args[1], int(args[2])
    if args[4]:
        raise KernelRefused("an embedding with scale_grad_by_freq, whose kernels have no rule")
    tokens = int(indices.numel())
    if tokens <= FEW_TOKENS:
        return None
    if indices.element_size() != INDEX_BYTES:
        raise KernelRefused("an embedding of many indices of 32 bits, whose sort has no rule")
    return tokens, rows, int(grad.shape[-1])


def _segments(dims: Dims) -> int:
    """The most different tokens that there can be."""
    return min(dims[0], dims[1])


def _partial_segments(dims: Dims) -> int:
    return dims[0] // ROWS_A_THREAD + _segments(dims)


def _sort_storage(dims: Dims, context: KernelContext) -> int:
    """Both halves of keys and values, counters, and a row of counters for each tile.

    One pass needs no second half.
    """
    tokens, rows, _ = dims
    if rows < FEW_ROWS_A_MULTIPROCESSOR * context.target.multiprocessors:
        raise KernelRefused(
            f"an embedding of only {rows} rows and {tokens} indices, whose gradient has no rule"
        )
    passes = ceil_div(rows.bit_length() if context.rules.sorts_used_bits else KEY_BITS, 8)
    halves = 2 * round_up(INDEX_BYTES * tokens, CUB_ALIGNMENT) if passes > 1 else 0
    tiles = 256 * 4 * ceil_div(tokens, SORT_TILE)
    return halves + BINS_BYTES * passes + tiles + 2 * CUB_ALIGNMENT - 1


def _scan_storage(count: int, tile: int) -> int:
    """The states of all tiles and of a warp of them before the first, 16 bytes each."""
    states = 16 * (ceil_div(count, tile) + 32)
    return round_up(states, CUB_ALIGNMENT) + 2 * CUB_ALIGNMENT - 1


def _sorted_row(
    what: str,
    size: Callable[[Dims], int],
    *,
    outlives: int | None = None,
    before: bool = False,
) -> KernelRow:
    return KernelRow(
        name=f"embedding backward: {what}",
        ops=BACKWARD,
        dims=_many,
        size=lambda dims, context: size(dims),
        source="EmbeddingBackwardKernel.cu, embedding_backward_cuda_kernel; above 3,072 tokens",
        outlives=outlives,
        before=before,
    )


def _tokens(dims: Dims) -> int:
    return INDEX_BYTES * dims[0]


def _one(dims: Dims) -> int:
    return INDEX_BYTES


EMBEDDING_ROWS = (
    KernelRow(
        name="embedding: indices in a row",
        ops=FORWARD,
        dims=_copied_indices(1),
        source="native/Embedding.cpp, embedding_symint: indices.reshape(-1)",
        before=True,
    ),
    KernelRow(
        name="embedding backward: indices in a row",
        ops=BACKWARD,
        dims=_copied_indices(1),
        source="Embedding.cu, embedding_dense_backward_cuda: indices_.contiguous()",
        before=True,
    ),
    KernelRow(
        name="embedding backward: gradient in a row",
        ops=BACKWARD,
        dims=_copied_gradient,
        source="Embedding.cu, embedding_dense_backward_cuda: grad_.contiguous()",
        before=True,
    ),
    _sorted_row("sorted indices", _tokens, before=True),
    _sorted_row("their places", _tokens, before=True),
    _sorted_row("all places in a row", _tokens, before=True, outlives=1),
    KernelRow(
        name="embedding backward: the sort's storage",
        ops=BACKWARD,
        dims=_many,
        size=_sort_storage,
        source="cub::DeviceRadixSort, one sweep over each byte of a key",
        before=True,
        outlives=0,
    ),
    _sorted_row("where segments begin", _tokens),
    _sorted_row("the number of segments", _one),
    _sorted_row("places counted", _tokens, outlives=1),
    _sorted_row("unique's storage", lambda dims: _scan_storage(dims[0], UNIQUE_TILE), outlives=0),
    _sorted_row("parts a segment", lambda dims: INDEX_BYTES * _segments(dims)),
    _sorted_row("parts before a segment", lambda dims: INDEX_BYTES * _segments(dims)),
    _sorted_row(
        "the scan's storage", lambda dims: _scan_storage(_segments(dims), SCAN_TILE), outlives=0
    ),
    _sorted_row("the number of parts", _one),
    _sorted_row("where parts begin", lambda dims: INDEX_BYTES * _partial_segments(dims)),
    _sorted_row("partial sums", lambda dims: 4 * _partial_segments(dims) * dims[2]),
)
