"""Attention: the needs of flash and memory-efficient kernels beyond their results.

Queries are (B, H, S, D). aten/src/ATen/native/transformers/cuda, torch 2.11.
"""

import math
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

FLASH = ("aten._scaled_dot_product_flash_attention.default",)
FLASH_BACKWARD = ("aten._scaled_dot_product_flash_attention_backward.default",)
EFFICIENT_BACKWARD = ("aten._scaled_dot_product_efficient_attention_backward.default",)

SMALL_SHARED = ((8, 6), (8, 7), (8, 8), (8, 9), (12, 0), (12, 1))
REFUSED_DEPTHS = range(193, 225)
"""check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120 in sdp_utils.cpp; without
dropout, larger heads are taken again."""


def _query(position: int) -> Callable[[Sequence[Any]], Dims]:
    """(B, H, S, D, bytes of a number) of the query, which is the argument at `position`."""

    def read(args: Sequence[Any]) -> Dims:
        query = args[position]
        return (*(int(size) for size in query.shape), query.element_size())

    return read


def _uncopied(position: int) -> Callable[[Sequence[Any]], Dims]:
    """Bytes of the `position`-th argument if it does not lie as (B, S, H, D) in memory, else 0."""

    def read(args: Sequence[Any]) -> Dims:
        tensor = args[position]
        lies_well = tensor.transpose(1, 2).is_contiguous()
        return (0 if lies_well else tensor.numel() * tensor.element_size(),)

    return read


def _drops(args: Sequence[Any]) -> Dims | None:
    """Nothing to know where there is dropout, which is the fourth argument."""
    return () if len(args) > 3 and args[3] else None


def flash_splits(dims: Dims, multiprocessors: int) -> int:
    """Parts into which flash attention splits keys and values when few blocks fill the card.

    num_splits_heuristic in flash_api.cpp; 1 as long as the sequence is at most 256.
    """
    batch, heads, length, depth, _ = dims
    blocks = batch * heads * ceil_div(length, 64)
    room = 2 * multiprocessors
    chunks = ceil_div(length, 256 if depth <= 64 else 128 if depth <= 128 else 64)
    if blocks >= 0.8 * room:
        return 1
    eligible = [
        splits
        for splits in range(1, min(128, room, chunks) + 1)
        if splits == 1 or ceil_div(chunks, splits) != ceil_div(chunks, splits - 1)
    ]
    waves = {splits: blocks * splits / room for splits in eligible}
    efficiency = {splits: wave / math.ceil(wave) for splits, wave in waves.items()}
    best = max(efficiency.values())
    return next(splits for splits in eligible if efficiency[splits] >= 0.85 * best)


def _split_lse(dims: Dims, context: KernelContext) -> int:
    batch, heads, length, _, _ = dims
    splits = flash_splits(dims, context.target.multiprocessors)
    return 0 if splits == 1 else 4 * splits * batch * heads * length


def _split_out(dims: Dims, context: KernelContext) -> int:
    return _split_lse(dims, context) * round_up(dims[3], 32)


def _softmax_d(dims: Dims, context: KernelContext) -> int:
    """Raises `KernelRefused` for heads that a card with little shared memory can't train."""
    batch, heads, length, depth, _ = dims
    if context.target.compute_capability in SMALL_SHARED and depth in REFUSED_DEPTHS:
        dotted = "{}.{}".format(*context.target.compute_capability)
        raise KernelRefused(
            f"attention with {depth} numbers a head, which the flash kernel does not train on "
            f"compute capability {dotted}"
        )
    return 4 * batch * heads * round_up(length, 128)


def _dq_accum(dims: Dims, context: KernelContext) -> int:
    batch, heads, length, depth, _ = dims
    copies = 1
    if context.deterministic:
        copies = ceil_div(context.target.multiprocessors, batch * heads)
    return 4 * copies * batch * round_up(length, 128) * heads * round_up(depth, 32)


def _delta_product(dims: Dims, context: KernelContext) -> int:
    batch, heads, length, depth, number = dims
    return 4 * batch * heads * length * depth if number == 4 else 0


def _delta_sum(dims: Dims, context: KernelContext) -> int:
    batch, heads, length, _, number = dims
    return 4 * batch * heads * length if number == 4 and min(heads, length) > 1 else 0


def _delta(dims: Dims, context: KernelContext) -> int:
    batch, heads, length, _, _ = dims
    return 4 * batch * heads * length


def _efficient_workspace(dims: Dims, context: KernelContext) -> int:
    """One accumulator tile of 64 × 64 (or 128 × 64) floats and a lock for each tile of dq."""
    batch, heads, length, depth, number = dims
    wide = number == 4 and 64 < depth <= 128
    rows = 128 if wide and context.target.compute_capability in ((8, 0), (9, 0)) else 64
    tile = 16 + rows * 64 * 4
    return tile * ceil_div(length, rows) * ceil_div(depth, 64) * batch * heads


FLASH_API = "transformers/cuda/flash_attn/flash_api.cpp"
EFFICIENT = "transformers/cuda/attention_backward.cu, _efficient_attention_backward"

ATTENTION_ROWS = (
    KernelRow(
        name="flash forward softmax_lse_accum",
        ops=FLASH,
        dims=_query(0),
        size=_split_lse,
        source=f"{FLASH_API}, set_params_splitkv: only for long sequences on few heads",
    ),
    KernelRow(
        name="flash forward out_accum",
        ops=FLASH,
        dims=_query(0),
        size=_split_out,
        source=f"{FLASH_API}, set_params_splitkv: only for long sequences on few heads",
    ),
    KernelRow(
        name="flash forward dropout's seed and offset",
        ops=FLASH,
        dims=_drops,
        size=lambda dims, context: 16,
        source=f"{FLASH_API}, mha_fwd: two numbers of 64 bits, as recorded under the driver",
    ),
    KernelRow(
        name="flash backward grad_out.contiguous()",
        ops=FLASH_BACKWARD,
        before=True,
        dims=_uncopied(0),
        source="transformers/cuda/attention_backward.cu, _flash_attention_backward",
    ),
    KernelRow(
        name="flash backward out.contiguous()",
        ops=FLASH_BACKWARD,
        before=True,
        dims=_uncopied(4),
        source="transformers/cuda/attention_backward.cu, _flash_attention_backward",
    ),
    KernelRow(
        name="flash backward softmax_d",
        ops=FLASH_BACKWARD,
        dims=_query(1),
        size=_softmax_d,
        source=f"{FLASH_API}, mha_bwd: softmax_d",
    ),
    KernelRow(
        name="flash backward dq_accum",
        ops=FLASH_BACKWARD,
        dims=_query(1),
        size=_dq_accum,
        source=f"{FLASH_API}, mha_bwd: dq_accum; deterministic: one copy a share of the card",
    ),
    KernelRow(
        name="efficient backward grad_out.contiguous()",
        ops=EFFICIENT_BACKWARD,
        before=True,
        dims=_uncopied(0),
        source=EFFICIENT,
    ),
    KernelRow(
        name="efficient backward grad_out · out",
        ops=EFFICIENT_BACKWARD,
        dims=_query(1),
        size=_delta_product,
        outlives=2,
        source=f"{EFFICIENT}: delta in fp32, where the kernel does not compute it",
    ),
    KernelRow(
        name="efficient backward sum of grad_out · out",
        ops=EFFICIENT_BACKWARD,
        dims=_query(1),
        size=_delta_sum,
        outlives=1,
        source=f"{EFFICIENT}: delta in fp32, before it is made contiguous",
    ),
    KernelRow(
        name="efficient backward delta",
        ops=EFFICIENT_BACKWARD,
        dims=_query(1),
        size=_delta,
        source=f"{EFFICIENT}: delta",
    ),
    KernelRow(
        name="efficient backward workspace",
        ops=EFFICIENT_BACKWARD,
        dims=_query(1),
        size=_efficient_workspace,
        source="mem_eff_attention/kernel_backward.h, workspace_elements_gq: GradQTempStorage",
    ),
)
