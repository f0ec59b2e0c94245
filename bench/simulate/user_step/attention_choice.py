"""The attention kernel that PyTorch takes on a card when nobody pins one, and what it is handed.

Rules of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (select_sdp_backend and its filters)
and transformers/attention.cpp (scaled_dot_product_attention), torch 2.11.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.simulate.kernels.row import KernelRefused
from bench.simulate.trace.backward import InPlaceOps

Capability = tuple[int, int]

HALF = (torch.float16, torch.bfloat16)
MATH, FLASH, EFFICIENT, CUDNN = 0, 1, 2, 3
"""at::SDPBackend."""

FLASH_DEPTH, CUDNN_DEPTH = 256, 128
TRAINED_FLASH_DEPTH = 192
NO_DEEP_FLASH = ((8, 6), (8, 7), (8, 8), (8, 9), (12, 0), (12, 1))
CUDNN_FIRST = (9, 10)
"""Major numbers of the cards on which cuDNN's kernel goes first (check_prefer_cudnn_attention)."""

MASK_ALIGNMENT = 8
"""Numbers to which a mask's rows are padded for the memory-efficient kernel (preprocess_mask)."""

ADDED_IN_PLACE = {torch.ops.aten.add.Tensor: torch.ops.aten.add_.Tensor}
"""What is done with a mask by the kernel that is made of other ops."""

ONE_CHUNK = 64
"""Keys that every flash kernel takes at a time."""


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One call of scaled_dot_product_attention. Query (B, H, S, D), key and value (B, H, T, D)."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    is_causal: bool
    scale: float | None
    enable_gqa: bool

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.query, self.key, self.value

    @property
    def keeps(self) -> bool:
        """True if there will be a backward."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.inputs)


def attend(call: AttentionCall, capability: Capability) -> Tensor:
    """The ops that PyTorch would run on a card of that compute capability. Shape (B, H, S, D).

    Raises `KernelRefused` where the kernel that it would take has no rule.
    """
    if torch.is_autocast_enabled("cuda"):
        call = _cast(call, torch.get_autocast_dtype("cuda"))
    with torch.autocast("cuda", enabled=False):  # the wrapper of autocast casts, then is off
        kernel = chosen(call, capability)
        _check_has_rule(call, kernel)
        if kernel == FLASH:
            return _flash(call)
        call = replace(call, mask=_additive(call))
        return _efficient(call) if kernel == EFFICIENT else _math(call)


def chosen(call: AttentionCall, capability: Capability) -> int:
    """The kernel, by its number in at::SDPBackend (select_sdp_backend)."""
    order = list(torch._C._get_sdp_priority_order())
    if capability[0] in CUDNN_FIRST and order.index(CUDNN) > order.index(FLASH):
        order = [CUDNN, *(kernel for kernel in order if kernel != CUDNN)]
    takes = {
        CUDNN: torch._C._get_cudnn_sdp_enabled() and _cudnn_takes(call, capability),
        FLASH: torch._C._get_flash_sdp_enabled() and _flash_takes(call, capability),
        EFFICIENT: torch._C._get_mem_efficient_sdp_enabled() and _efficient_takes(call, capability),
        MATH: torch._C._get_math_sdp_enabled(),
    }
    for kernel in order:
        if takes.get(kernel):
            return kernel
    raise KernelRefused("attention for which the enabled kernels have no use, as on a card")


def _cudnn_takes(call: AttentionCall, capability: Capability) -> bool:
    """The filters that a training step meets (can_use_cudnn_attention)."""
    depth = max(call.query.shape[-1], call.value.shape[-1])
    return (
        capability >= (8, 0)
        and _is_common(call)
        and call.query.dtype in HALF
        and depth <= CUDNN_DEPTH
        and not any(t.shape[-1] % 8 for t in call.inputs)
        and (16 * call.dropout).is_integer()
        and call.key.shape[2] > 1
    )


def _flash_takes(call: AttentionCall, capability: Capability) -> bool:
    """can_use_flash_attention."""
    depth = call.query.shape[-1]
    trains_it = (
        depth <= TRAINED_FLASH_DEPTH
        or (not call.dropout and depth > 224)
        or not (call.keeps and capability in NO_DEEP_FLASH)
    )
    return (
        capability >= (8, 0)
        and _is_common(call)
        and call.mask is None
        and call.query.dtype in HALF
        and len({t.shape[-1] for t in call.inputs}) == 1
        and depth <= FLASH_DEPTH
        and trains_it
        and not (call.is_causal and call.query.shape[2] != call.key.shape[2])
        and all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in call.inputs)
    )


def _efficient_takes(call: AttentionCall, capability: Capability) -> bool:
    """can_use_mem_efficient_attention."""
    half = call.query.dtype in HALF
    numbers = (torch.float16, torch.float32, torch.bfloat16)
    aligned = 8 if half else 4 if capability >= (8, 0) else 1  # minimum_gemm_alignment
    return (
        _is_common(call)
        and call.query.dtype in (numbers if capability >= (8, 0) else numbers[:2])
        and call.query.shape[-1] == call.key.shape[-1]
        and not any(t.shape[-1] % aligned for t in call.inputs)
        and all(t.stride(-1) == 1 for t in call.inputs)
        and (call.mask is None or call.mask.stride(-1) == 1)
    )


def _is_common(call: AttentionCall) -> bool:
    """Four dimensions, one batch, as many heads of keys as of queries, one type, nothing empty."""
    heads = {t.shape[1] for t in call.inputs if t.dim() == 4}
    return (
        all(t.dim() == 4 and t.numel() for t in call.inputs)
        and len({t.shape[0] for t in call.inputs}) == 1
        and len({t.dtype for t in call.inputs}) == 1
        and (len(heads) == 1 or call.enable_gqa)
    )


def _check_has_rule(call: AttentionCall, kernel: int) -> None:
    """Refuse a kernel, or a use of one, whose hidden memory is in no row."""
    what = None
    lengths = {call.query.shape[-2], call.key.shape[-2]}
    if kernel == CUDNN:
        what = (
            "that goes to cuDNN's kernel, which has no rule: "
            "choose another with torch.nn.attention.sdpa_kernel"
        )
    elif kernel != MATH and len({t.shape[1] for t in call.inputs}) > 1:
        what = "with fewer heads of keys than of queries, which has no rule"
    elif kernel == FLASH and len(lengths) > 1 and max(lengths) > ONE_CHUNK:
        what = f"of {lengths} queries and keys by the flash kernel, which has no rule"
    elif kernel != MATH and call.mask is not None and call.mask.requires_grad:
        what = "with a mask that has a gradient, which has no rule"
    if what is not None:
        raise KernelRefused(f"attention {what}")


def _cast(call: AttentionCall, dtype: torch.dtype) -> AttentionCall:
    """What autocast makes of the arguments: it casts every one that is a floating-point number."""
    mask = call.mask
    if mask is not None and mask.is_floating_point():
        mask = mask.to(dtype)
    query, key, value = (t.to(dtype) for t in call.inputs)
    return replace(call, query=query, key=key, value=value, mask=mask)


def _additive(call: AttentionCall) -> Tensor | None:
    """The mask as what is added (convert_boolean_attn_mask)."""
    mask = call.mask
    if mask is None or mask.dtype is not torch.bool:
        return mask
    out = torch.scalar_tensor(-torch.inf, dtype=call.query.dtype, device=mask.device)
    return torch.where(mask, 0.0, out)


def _flash(call: AttentionCall) -> Tensor:
    depth = call.query.shape[-1]
    scale = call.scale if call.scale is not None else depth**-0.5
    rest = -depth % 8
    padded = [F.pad(t, (0, rest)) if rest else t for t in call.inputs]
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    found = flash(*padded, call.dropout, call.is_causal, False, scale=scale)[0]
    return cast(Tensor, found[..., :depth] if rest else found)


def _efficient(call: AttentionCall) -> Tensor:
    mask = call.mask
    if mask is not None:
        if any(stride % MASK_ALIGNMENT for stride in mask.stride()[:-1]):  # preprocess_mask
            width = mask.shape[-1]
            padding = MASK_ALIGNMENT - width % MASK_ALIGNMENT
            mask = F.pad(mask, (0, padding))[..., :width]
        mask = mask.expand(*call.query.shape[:3], call.key.shape[2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    found = efficient(
        *call.inputs, mask, call.keeps, call.dropout, call.is_causal, scale=call.scale
    )
    return cast(Tensor, found[0])


def _math(call: AttentionCall) -> Tensor:
    math = torch.ops.aten._scaled_dot_product_attention_math
    with InPlaceOps(ADDED_IN_PLACE):
        found = math(
            *call.inputs,
            call.mask,
            call.dropout,
            call.is_causal,
            None,
            scale=call.scale,
            enable_gqa=call.enable_gqa,
        )
    return cast(Tensor, found[0])
