"""Fake CUDA tensors, and torch persuaded to treat them as it treats real ones.

Without a GPU torch disables CUDA's autocast and gradient scaler, refuses its attention kernels
and can't run `backward`. Inside the illusion they work as on a card, minus the arithmetic.
Nothing is changed outside it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.simulate.trace.caching_fake_mode import CachingFakeTensorMode
from distill.spec.pins import Attention

FLASH_DEPTH = 256
"""The most numbers a head that flash attention takes."""


class AttentionRefused(Exception):
    """The pinned kernel does not take what the model asks of it, in words."""


class ReroutedCalls(TorchFunctionMode):
    """Sends a few calls another way: attention, `backward`, `item`, fused SGD."""

    def __init__(self, attention: Attention | None, backward: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.attention = attention
        self.backward = backward

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            with self:  # a mode is off while it answers; recomputed blocks need it
                return self.backward(args[0])
        if func is torch.Tensor.item and isinstance(args[0], torch._subclasses.FakeTensor):
            # On the card the gradient scaler asks whether it found an infinity; on the CPU an
            # optimizer asks how many steps it made.
            return 0.0 if args[0].is_cuda else 1.0
        if func is torch._fused_sgd_:
            return None  # works in place, allocates nothing, and has no fake kernel
        if func is F.scaled_dot_product_attention and self.attention is not None:
            return _attention(self.attention, *args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    kernel: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The op that CUDA's dispatcher would choose under the pin, after autocast's casts."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = (t.to(dtype) for t in (query, key, value))
    _check_taken(kernel, query, key, value, attn_mask)
    if kernel == "flash":
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return cast(Tensor, flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    keeps = torch.is_grad_enabled() and query.requires_grad
    outputs = efficient(query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale)
    return cast(Tensor, outputs[0])


def _check_taken(
    kernel: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> None:
    """Refuse what the pinned kernel refuses on a card (sdp_utils.cpp, torch 2.11)."""
    what = None
    if query.dim() != 4:
        what = f"over {query.dim()} dimensions"
    elif not query.shape[:2] == key.shape[:2] == value.shape[:2]:
        what = "with fewer heads of keys than of queries"
    elif kernel == "flash" and mask is not None:
        what = "with a mask"
    elif kernel == "flash" and query.dtype not in (torch.float16, torch.bfloat16):
        what = "in fp32"
    elif kernel == "flash" and query.shape[-1] > FLASH_DEPTH:
        what = f"with {query.shape[-1]} numbers a head"
    if what is not None:
        raise AttentionRefused(f"attention {what}, which the {kernel} kernel refuses")


@contextlib.contextmanager
def fake_cuda(
    device_type: str, attention: Attention, backward: Callable[[Tensor], None]
) -> Iterator[CachingFakeTensorMode]:
    """Everything inside happens to fake tensors; `backward` walks the graph.

    On a CPU target only the tensors are fake; attention is the CPU's own. A module that was
    built on the meta device becomes fake as it is moved.
    """
    on_cuda = device_type == "cuda"
    with contextlib.ExitStack() as stack:
        # a GPU that is there is not looked at: no context is made, and nothing is traced otherwise
        stack.enter_context(mock.patch("torch.cuda.is_available", lambda: False))
        if on_cuda:
            stack.enter_context(
                mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
            )
            stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", lambda: True))
        # inference mode hides from a dispatch mode what composite ops are made of
        stack.enter_context(mock.patch("distill.step.step.inference_mode", torch.no_grad))
        mode = stack.enter_context(CachingFakeTensorMode())
        stack.enter_context(ReroutedCalls(attention if on_cuda else None, backward))
        yield mode
