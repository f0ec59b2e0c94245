"""What CUDA kernels allocate inside themselves, in one table.

Each row: which op, under which condition, how many bytes, and where that is read. Fake tensors
show only what an op returns; these are the rest. Rows hold for torch 2.11 up to the release in
which cuBLAS takes its workspace call by call (2.15); `tests/bench/predict/test_kernels.py`
repeats each by hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.predict.trace import Hidden, Owner
from distill.pins import Pins, cublas_workspace_bytes
from distill.profile import Target

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Card:
    """What a row may depend on beyond the op's own dimensions."""

    target: Target
    pins: Pins
    deterministic: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hidden allocation. `dims` reads from the op's arguments what `size` needs."""

    name: str
    ops: tuple[str, ...]
    dims: Callable[[Sequence[Any]], Dims]
    size: Callable[[Dims, Card], int]
    owner: Owner
    kept_by: str | None = None
    source: str


def _up(value: int, multiple: int) -> int:
    return multiple * -(-value // multiple)


def _query_shape(args: Sequence[Any]) -> Dims:
    """(B, H, S, D) of a flash backward: arguments are grad_out, query, …"""
    return tuple(int(size) for size in args[1].shape)


def _softmax_d(dims: Dims, card: Card) -> int:
    batch, heads, length, _ = dims
    return 4 * batch * heads * _up(length, 128)


def _dq_accum(dims: Dims, card: Card) -> int:
    batch, heads, length, depth = dims
    copies = 1
    if card.deterministic:
        copies = -(-card.target.multiprocessors // (batch * heads))
    return 4 * copies * batch * _up(length, 128) * heads * _up(depth, 32)


ROWS = (
    Row(
        name="cublas workspace",
        ops=("aten.addmm.default", "aten.mm.default", "aten.bmm.default", "aten.baddbmm.default"),
        dims=lambda args: (),
        size=lambda dims, card: cublas_workspace_bytes(card.pins),
        owner="workspaces",
        kept_by="cublas",
        source="ATen/cuda/CublasHandlePool.cpp: one a handle and stream, handles are a thread's; "
        "cublasLt shares it unless TORCH_CUBLASLT_UNIFIED_WORKSPACE=0 (2.11)",
    ),
    Row(
        name="flash backward softmax_d",
        ops=("aten._scaled_dot_product_flash_attention_backward.default",),
        dims=_query_shape,
        size=_softmax_d,
        owner="temporaries",
        source="transformers/cuda/flash_attn/flash_api.cpp, mha_bwd: softmax_d",
    ),
    Row(
        name="flash backward dq_accum",
        ops=("aten._scaled_dot_product_flash_attention_backward.default",),
        dims=_query_shape,
        size=_dq_accum,
        owner="temporaries",
        source="transformers/cuda/flash_attn/flash_api.cpp, mha_bwd: dq_accum, dq_accum_split",
    ),
)


class KernelTable:
    """The rows, for one card and its pins."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.by_name = {row.name: row for row in ROWS}
        self.by_op: dict[str, list[Row]] = {}
        for row in ROWS:
            for op in row.ops:
                self.by_op.setdefault(op, []).append(row)

    def __call__(self, op: str, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[Hidden]:
        """What one call of `op` allocates beyond its outputs."""
        return [
            Hidden(row.name, dims, row.size(dims, self.card), row.owner, row.kept_by)
            for row in self.by_op.get(op, ())
            for dims in [row.dims(args)]
        ]

    def size(self, row: str, dims: Dims) -> int:
        """Bytes of a row for other dimensions."""
        return self.by_name[row].size(dims, self.card)
