"""What a step may do that a trace can't follow: refused by its name, as it happens.

Dropped in silence, each would make the prediction one of another step. Hooks are called by
PyTorch's engine, which no trace enters; settings decide which kernel a card takes, and so its
workspaces; a storage that is resized, and code that is compiled, are seen by no dispatch mode.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction, _HookMixin


class Untraceable(NotImplementedError):
    """A step does what is not traced; the words begin with its name."""


HOOKS = (
    torch.Tensor.register_hook,
    torch.Tensor.register_post_accumulate_grad_hook,
    torch.Tensor.retain_grad,
)
"""Methods that register what a walk of the graph does not call, and PyTorch's engine does."""

SETTINGS: dict[str, Callable[[], object]] = {
    "torch.backends.cudnn.benchmark": torch._C._get_cudnn_benchmark,
    "torch.backends.cudnn.deterministic": torch._C._get_cudnn_deterministic,
    "torch.backends.cudnn.enabled": torch._C._get_cudnn_enabled,
    "torch.backends.cuda.flash_sdp_enabled": torch._C._get_flash_sdp_enabled,
    "torch.backends.cuda.mem_efficient_sdp_enabled": torch._C._get_mem_efficient_sdp_enabled,
    "torch.backends.cuda.math_sdp_enabled": torch._C._get_math_sdp_enabled,
    "torch.backends.cuda.cudnn_sdp_enabled": torch._C._get_cudnn_sdp_enabled,
    "torch.backends.cuda.preferred_blas_library": torch._C._get_blas_preferred_backend,
    "torch.are_deterministic_algorithms_enabled": torch._C._get_deterministic_algorithms,
}
"""What decides which kernel a card takes. A candidate's pins say it before the step begins."""


class SettingsWatch:
    """The settings as they are now; a step that changes one is refused."""

    def __init__(self) -> None:
        self._before = [ask() for ask in SETTINGS.values()]

    def check(self) -> None:
        """Raise `Untraceable` where a setting is another than at the beginning."""
        for (name, ask), before in zip(SETTINGS.items(), self._before, strict=True):
            if ask() != before:
                raise Untraceable(f"{name} can't be traced: the step changes it, the pins decide")


@contextlib.contextmanager
def refusing_what_is_not_seen(*, calls_hooks: bool = False) -> Iterator[None]:
    """Calls inside that no trace would see raise `Untraceable`.

    With `calls_hooks` the backward pass is PyTorch's own engine, which does all of it.
    """
    refused = [
        (torch, "compile", "torch.compile", "the compiler decides what is allocated"),
        (torch.UntypedStorage, "resize_", "UntypedStorage.resize_", "no op tells of it"),
    ]
    if not calls_hooks:
        refused += [
            # C++ asks this of `Function` for a hook on any node (torch/csrc/autograd/
            # python_cpp_function.cpp, registerFunctionHook): hooks of modules come here, too.
            (_HookMixin, "_register_hook", "a hook on a node of the graph", "it is not called"),
            # `backward` and `grad` of torch.autograd; Tensor.backward is sent another way before.
            (
                *(torch.autograd, "_engine_run_backward", "torch.autograd.backward or grad"),
                "only Tensor.backward() is",
            ),
        ]
    with contextlib.ExitStack() as stack:
        for owner, attribute, name, why in refused:
            stand_in: Any = _refusal(name, why)
            if attribute == "_register_hook":
                stand_in = staticmethod(stand_in)
            stack.enter_context(mock.patch.object(owner, attribute, stand_in))
        yield


def _refusal(name: str, why: str) -> Callable[..., NoReturn]:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise Untraceable(f"{name} can't be traced: {why}")

    return refuse


def refuse_hooks_of(model: nn.Module) -> None:
    """Raise `Untraceable` for a parameter that was given hooks as the model was built.

    A model that becomes fake gets new parameters, and these have none.
    """
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise Untraceable(f"a hook on {name} can't be traced: it is not called")


def refuse_node(node: object) -> None:
    """Raise `Untraceable` for a node whose backward is a Python function."""
    if isinstance(node, BackwardCFunction):
        name = type(node).__name__.removesuffix("Backward")
        raise Untraceable(f"{name}, an autograd.Function, can't be traced: the walk calls none")
