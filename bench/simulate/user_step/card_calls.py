"""Calls that a card answers another way than a fake tensor does: rerouted or refused.

A user's step pins nothing: attention goes to the kernel that PyTorch would choose, an
optimizer takes the lists that it takes on a card, and what asks the card itself is refused.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer
from torch.utils import _foreach_utils

from bench.simulate.trace.caching_fake_mode import CachingFakeTensorMode
from bench.simulate.trace.fake_cuda import ReroutedCalls, WalkBackward
from bench.simulate.trace.refusals import Untraceable
from bench.simulate.user_step.attention_choice import AttentionCall, Capability, attend

RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
"""On a card they are one call of cuDNN, whose workspace and reserve only a card can tell."""

CELLS = {torch.lstm_cell, torch.gru_cell}

POINTERS = {Tensor.data_ptr, Tensor.__dlpack__}
"""How a tensor is handed to a kernel that is not PyTorch's."""

CARD_ONLY = (
    *("empty_cache", "memory_allocated", "max_memory_allocated", "memory_reserved"),
    *("max_memory_reserved", "memory_stats", "memory_snapshot", "mem_get_info", "Stream"),
    *("set_per_process_memory_fraction", "CUDAGraph", "graph"),
)
"""Functions of torch.cuda that change or read the memory of a card."""

HARMLESS = ("synchronize", "reset_peak_memory_stats", "manual_seed", "manual_seed_all")
"""Functions of torch.cuda that take no memory."""

SETTINGS = {
    "torch.backends.cudnn.benchmark": (torch._C._get_cudnn_benchmark, False),
    "torch.backends.cudnn.deterministic": (torch._C._get_cudnn_deterministic, False),
    "torch.backends.cudnn.enabled": (torch._C._get_cudnn_enabled, True),
    "torch.are_deterministic_algorithms_enabled()": (
        *(torch._C._get_deterministic_algorithms, False),
    ),
}
"""What decides about kernels, with the value that the rules are for: PyTorch's own."""


class CardCalls(ReroutedCalls):
    """Reroutes what `ReroutedCalls` does, attention by the card's compute capability."""

    frames = 2

    def __init__(
        self,
        attention: None,
        walk_backward: WalkBackward,
        *,
        calls_hooks: bool,
        capability: Capability,
    ) -> None:
        super().__init__(None, walk_backward, calls_hooks=calls_hooks)
        self.capability = capability

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.is_inference_mode_enabled():
            raise Untraceable(
                "torch.inference_mode as a decorator can't be traced: ops inside are not seen; "
                "torch.no_grad takes as much memory"
            )
        if func is F.scaled_dot_product_attention and _is_on_card(args, kwargs):
            return attend(_attention_call(*args, **(kwargs or {})), self.capability)
        if func in RECURRENT and _is_on_card(args, kwargs):
            raise Untraceable(f"torch.{func.__name__} can't be traced: on a card it is cuDNN's")
        if func in CELLS and _is_on_card(args, kwargs):
            raise Untraceable(f"torch.{func.__name__} can't be traced: its kernel has no rule")
        if func in POINTERS and isinstance(args[0], FakeTensor):
            if sys._getframe(1).f_globals.get("__name__") == "torch.nn.modules.rnn":
                raise Untraceable("a recurrent net can't be traced: on a card it is cuDNN's")
            raise Untraceable(
                f"Tensor.{func.__name__} can't be traced: a kernel that is not PyTorch's gets it"
            )
        if func is F.linear and _is_on_card(args, kwargs):
            self.settings.check()
            return _linear(*args, **(kwargs or {}))
        if func is Tensor.pin_memory:
            return args[0].clone()  # no memory of the card
        if func is F.one_hot and _is_on_card(args, kwargs):
            return _one_hot(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def _is_on_card(args: Any, kwargs: dict[str, Any] | None) -> bool:
    first = next(iter([*args, *(kwargs or {}).values()]), None)
    return isinstance(first, Tensor) and first.is_cuda


def _attention_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    return AttentionCall(
        query=query,
        key=key,
        value=value,
        mask=attn_mask,
        dropout=dropout_p,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A product; a bias that is not part of it is added in place, but not on a fake tensor.

    native/Linear.cpp, linear, 2.11. Shapes (…, in), (out, in), (out).
    """
    if bias is None or input.dim() < 3 or input.is_contiguous():
        return F.linear(input, weight, bias)
    product = F.linear(input, weight)
    return product.add_(bias.to(product.dtype))


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Rows of zeros with a one each (native/Onehot.cpp, 2.11). Shape (…) to (…, classes)."""
    if num_classes < 0:
        return F.one_hot(tensor)
    rows = torch.zeros((*tensor.shape, num_classes), dtype=tensor.dtype, device=tensor.device)
    return rows.scatter_(-1, tensor.unsqueeze(-1), 1)


class CardMode(CachingFakeTensorMode):
    """A fake mode for the card alone: what runs on the CPU runs, and its numbers can be read."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if not _is_fake([*args, *(kwargs or {}).values()]):
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _is_fake(values: Sequence[Any]) -> bool:
    """True if an operand is fake, or names the card."""
    for value in values:
        if isinstance(value, FakeTensor):
            return True
        if isinstance(value, torch.device):
            if value.type == "cuda":
                return True
        elif isinstance(value, (list, tuple)) and _is_fake(value):
            return True
    return False


def check_settings() -> None:
    """Raise `Untraceable` where a setting that decides kernels is not PyTorch's own."""
    for name, (ask, known) in SETTINGS.items():
        if ask() != known:
            raise Untraceable(f"{name} = {ask()} can't be predicted: the rules are for {known}")


@contextlib.contextmanager
def as_on_a_card(mode: FakeTensorMode) -> Iterator[None]:
    """Inside, optimizers take fake tensors as a card's; what asks a card is refused."""
    lists = (_foreach_utils._foreach_supported_types, optimizer._foreach_supported_types)
    with contextlib.ExitStack() as stack:
        for name in CARD_ONLY:
            stack.enter_context(mock.patch.object(torch.cuda, name, _refused(name)))
        for name in HARMLESS:
            stack.enter_context(mock.patch.object(torch.cuda, name, _nothing))
        stack.enter_context(mock.patch("torch.inference_mode", _no_grad))
        for name in ("", "_unary", "_variadic"):
            # Functions of Python would hide what they call: a mode is off while it answers.
            asked = f"torch.nn.functional.has_torch_function{name}"
            stack.enter_context(mock.patch(asked, _never))
        # A module that is moved keeps its parameters, as on a card: those that are tied stay so.
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        stack.enter_context(mock.patch("torch.utils.swap_tensors", _swapping(mode)))
        for supported in lists:
            supported.append(FakeTensor)
            stack.callback(supported.remove, FakeTensor)
        yield


def _swapping(mode: FakeTensorMode) -> Any:
    """`torch.utils.swap_tensors`, which refuses what the mode's memo of its tensors refers to."""
    swap = torch.utils.swap_tensors

    def swap_unremembered(one: Tensor, other: Tensor) -> None:
        converter = mode.fake_tensor_converter.meta_converter
        for memo in (converter.tensor_memo, converter.describer.lookup_tensor):
            memo.clear()
        swap(one, other)

    return swap_unremembered


def _no_grad(mode: Any = True) -> Any:
    """`torch.inference_mode`, which hides ops from a trace; `no_grad` keeps as little."""
    if callable(mode):
        return torch.no_grad()(mode)
    return torch.no_grad() if mode else contextlib.nullcontext()


def _refused(name: str) -> Any:
    def refuse(*args: object, **kwargs: object) -> None:
        raise Untraceable(f"torch.cuda.{name} can't be traced: there is no card to ask")

    return refuse


def _never(*args: object) -> bool:
    return False


def _nothing(*args: object, **kwargs: object) -> None:
    """What a call does that takes no memory."""
