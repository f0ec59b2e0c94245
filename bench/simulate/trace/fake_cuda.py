"""Fake CUDA tensors, and torch persuaded to treat them as it treats real ones.

Without a GPU torch disables CUDA's autocast and gradient scaler, refuses its attention kernels
and can't run `backward`. Inside `fake_cuda` they work as on a card, minus the arithmetic.
Nothing is changed outside it.

A stand-in takes every argument of what it stands in for. An argument that it can't model is
refused by name: dropped in silence, it would be a prediction of another step.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from bench.simulate.kernels.row import KernelRefused
from bench.simulate.trace.caching_fake_mode import CachingFakeTensorMode
from bench.simulate.trace.refusals import (
    HOOKS,
    SettingsWatch,
    Untraceable,
    refusing_what_is_not_seen,
)
from distill.spec.pins import Attention

FLASH_DEPTH = 256
"""The most numbers a head that flash attention takes."""

ASKING_MODULES = ("torch.amp.grad_scaler", "torch.optim.optimizer")
"""Modules of torch whose `item()` gets a made-up number; any number would cost the same memory."""

DECIDED_BY_SETTINGS = (
    *(F.scaled_dot_product_attention, F.linear, torch.conv1d, torch.conv2d, torch.conv3d),
)
"""Functions whose kernel on a card is chosen by settings (`refusals.SETTINGS`)."""


class WalkBackward(Protocol):
    """The stand-in for PyTorch's engine: fills the gradients below a scalar loss."""

    def __call__(self, loss: Tensor, *, retain_graph: bool) -> None: ...


class ReroutedCalls(TorchFunctionMode):
    """Sends a few calls another way: attention, `backward`, `item`, fused SGD."""

    frames = 1
    """Python frames from what asked to here: C++ between has none."""

    def __init__(
        self, attention: Attention | None, walk_backward: WalkBackward, *, calls_hooks: bool
    ) -> None:
        super().__init__()
        self.attention = attention
        self.walk_backward = walk_backward
        self.refused = () if calls_hooks else HOOKS
        self.settings = SettingsWatch()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            self.settings.check()
            with self:  # a mode is off while it answers; recomputed blocks need it
                return self._backward(*args, **kwargs)
        is_item = func is torch.Tensor.item and isinstance(args[0], FakeTensor)
        if is_item and _is_torchs(self.frames):
            return _item(*args, **kwargs)
        if func is torch._fused_sgd_:
            return _fused_sgd(*args, **kwargs)
        if func is torch.Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            return _deep_copy(*args)
        if func in DECIDED_BY_SETTINGS:
            self.settings.check()
        if func is F.scaled_dot_product_attention and self.attention is not None:
            return _attention(self.attention, *args, **kwargs)
        if func in self.refused:
            raise Untraceable(f"{func.__name__} can't be traced: hooks are not called")
        return func(*args, **kwargs)

    def _backward(
        self,
        loss: Tensor,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """`Tensor.backward`. Raises `Untraceable` for what the walk does not do."""
        refused = {"gradient": gradient, "create_graph": create_graph or None, "inputs": inputs}
        for name, value in refused.items():
            if value is not None:
                raise Untraceable(
                    f"backward({name}=…) can't be traced: the walk of the graph goes from a "
                    "scalar to all leaves, and makes no graph of its own"
                )
        self.walk_backward(loss, retain_graph=bool(retain_graph))


def _is_torchs(depth: int) -> bool:
    """True if the frame `depth` above the caller's is the gradient scaler or an optimizer.

    Other code is not answered: a model's forward that reads a number may do anything with it.
    """
    return sys._getframe(depth + 1).f_globals.get("__name__") in ASKING_MODULES


def _item(tensor: Tensor) -> float:
    """A number of the scaler or an optimizer.

    On the card the gradient scaler asks if it found an infinity: it did not. On the CPU an
    optimizer asks how many steps it made.
    """
    return 0.0 if tensor.is_cuda else 1.0


def _fused_sgd(
    parameters: list[Tensor],
    grads: list[Tensor],
    momentum_buffer_list: list[Tensor],
    *,
    weight_decay: float,
    momentum: float,
    lr: float | Tensor,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """torch._fused_sgd_, which has no fake kernel.

    Writes in place and allocates nothing, whatever the arguments (FusedSgdKernel.cu): momentum
    buffers are made by the optimizer before the call.
    """


def _deep_copy(tensor: Tensor, memo: dict[int, Tensor]) -> Tensor:
    """`copy.deepcopy` of a leaf. Torch's own copies a fake tensor's mode too, and later crashes."""
    if id(tensor) in memo:
        return memo[id(tensor)]
    if not tensor.is_leaf or tensor.untyped_storage().nbytes() != tensor.nbytes:
        raise Untraceable("a deep copy of a view or a result can't be traced: only of a leaf is")
    made = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    if isinstance(tensor, nn.Parameter):
        made = nn.Parameter(made, tensor.requires_grad)
    elif tensor.grad is not None:  # as torch has it: a parameter's gradient is not copied
        made.grad = _deep_copy(tensor.grad, memo)
    memo[id(tensor)] = made
    return made


def _attention(
    kernel: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The op that CUDA's dispatcher would choose under the pin, after autocast's casts."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = (t.to(dtype) for t in (query, key, value))
    _check_traceable(attn_mask, is_causal, enable_gqa)
    _check_taken(kernel, query, key, value, attn_mask)
    if kernel == "flash":
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return cast(Tensor, flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    keeps = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    outputs = efficient(query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale)
    return cast(Tensor, outputs[0])


def _check_traceable(mask: Tensor | None, is_causal: bool, enable_gqa: bool) -> None:
    """Refuse the arguments for which a card makes tensors that are not modelled here."""
    what = None
    if enable_gqa:
        what = "with enable_gqa"
    elif mask is not None and is_causal:
        what = "with both attn_mask and is_causal"
    elif mask is not None and mask.dtype is torch.bool:
        what = "with an attn_mask of booleans"
    if what is not None:
        raise KernelRefused(f"attention {what}, which can't be traced")


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
        raise KernelRefused(f"attention {what}, which the {kernel} kernel refuses")


def _no_grad_for_inference(mode: bool = True) -> torch.no_grad:
    """`torch.inference_mode`, under which a dispatch mode can't see inside composite ops.

    `no_grad` keeps as little and hides nothing.
    """
    if mode is not True:
        raise Untraceable("inference_mode(mode=…) can't be traced: only mode=True is")
    return torch.no_grad()


@contextlib.contextmanager
def fake_cuda(
    device_type: str,
    attention: Attention,
    walk_backward: WalkBackward,
    *,
    calls_hooks: bool = False,
    rerouted: Callable[..., ReroutedCalls] = ReroutedCalls,
    fake_mode: Callable[[], CachingFakeTensorMode] = CachingFakeTensorMode,
) -> Iterator[CachingFakeTensorMode]:
    """Everything inside happens to fake tensors; `walk_backward` walks the graph.

    `rerouted` sends calls another way, `fake_mode` answers for kernels. What can't be seen is
    refused (`refusals`); hooks are not where `walk_backward` calls them (`calls_hooks`).

    On a CPU target only the tensors are fake; attention is the CPU's own. A module that was
    built on the meta device becomes fake as it is moved.
    """
    on_cuda = device_type == "cuda"
    with contextlib.ExitStack() as stack:
        # Before the fake mode begins, which otherwise looks at a GPU that is there: it would
        # make a context on it, and trace otherwise than on a machine without one.
        stack.enter_context(mock.patch("torch.cuda.is_available", lambda: False))
        if on_cuda:
            stack.enter_context(
                mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
            )
            bf16 = mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
            stack.enter_context(bf16)
        # `distill.step.step` imports `inference_mode` as a bare name so that it can be replaced
        # there and nowhere else: `torch.inference_mode` written out would not be found here.
        stack.enter_context(mock.patch("distill.step.step.inference_mode", _no_grad_for_inference))
        # An event is no memory, and there is no card to pass it.
        stack.enter_context(mock.patch("distill.step.step.recorded_event", lambda device: None))
        stack.enter_context(refusing_what_is_not_seen(calls_hooks=calls_hooks))
        mode = stack.enter_context(fake_mode())
        # Last, so that it is asked first: it sees a call before that becomes ops on fake tensors.
        stack.enter_context(
            rerouted(attention if on_cuda else None, walk_backward, calls_hooks=calls_hooks)
        )
        yield mode
