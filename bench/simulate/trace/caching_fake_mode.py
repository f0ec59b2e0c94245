"""A FakeTensorMode with a faster cache of results, which all traces of a process share.

A transformer makes the same few hundred calls thousands of times. torch has a cache for them
(torch/_subclasses/fake_tensor.py, 2.11), made for symbolic shapes: building its keys takes half
the time of a trace. Here shapes are numbers.

Not cached are ops that depend on data, change an operand's shape or write to an `out=`, sparse or
conjugate operands, and results that share a storage: these go to torch each time.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

from bench.simulate.trace.refusals import Untraceable

UNCACHEABLE_TAGS = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.inplace_view,
}
PLAIN = (
    *(int, float, bool, str, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)

MISS = object()


class _Uncacheable(Exception):
    """An op, an operand or a result that is not remembered."""


@dataclass(frozen=True, slots=True)
class _NewTensor:
    """A result that is a tensor with a storage of its own, or a view of the operand `view_of`."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    offset: int = 0
    view_of: int | None = None


@dataclass(frozen=True, slots=True)
class _WrittenOperand:
    """A result that is the operand at `index`, written in place."""

    index: int


_RESULTS: dict[tuple[Any, ...], dict[tuple[Any, ...], Any]] = {}
"""The cached results of this process, for each state of the settings that fake kernels read."""


class CachingFakeTensorMode(FakeTensorMode):
    """A FakeTensorMode whose cache outlives it, for the thread that makes it.

    Settings of torch must stay as they are while it is entered. Other dispatch modes don't see what
    another thread does with a fake tensor, this one does: it is refused on leaving.
    """

    def __init__(self) -> None:
        super().__init__(allow_fallback_kernels=False, allow_non_fake_inputs=True)
        self.cache_enabled = False  # torch's own
        self._results = _RESULTS.setdefault(_settings(), {})
        self._thread = threading.get_ident()
        self._other_thread_op: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it costs at every op

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The answer of FakeTensorMode: new fake tensors, or the operand that was written to."""
        if func is torch.ops.prim.device.default:
            return args[0].device  # asked by C++ of each operand, more often than all else
        if threading.get_ident() != self._thread:
            self._other_thread_op = str(func)
        kwargs = kwargs or {}
        try:
            # an op's identity will do: ops live as long as torch, and their hash is slow
            key = (
                *(id(func), torch.get_default_dtype()),
                *self._keys_of(args),
                *self._keys_of(tuple(kwargs.items())),
            )
        except _Uncacheable:
            return super().__torch_dispatch__(func, types, args, kwargs)
        answer = self._results.get(key, MISS)
        if answer is not MISS:
            return self._rebuilt(answer, args)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if _is_cacheable(func):
            with suppress(_Uncacheable):
                self._results[key] = self._remembered(result, args)
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise `Untraceable` if another thread made an op; in that thread nobody would hear it."""
        super().__exit__(kind, error, trace)
        if kind is None and self._other_thread_op and threading.get_ident() == self._thread:
            raise Untraceable(f"{self._other_thread_op} in a thread of its own can't be traced")

    def _keys_of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Operands as a key: equal for operands that an op can't tell apart but by their data."""
        key: list[Any] = [len(values)]
        for value in values:
            if isinstance(value, FakeTensor):
                key += self._tensor_key(value)
            elif isinstance(value, Tensor) and value.is_meta:
                key += _meta_key(value)
            elif isinstance(value, (tuple, list)):
                key += self._keys_of(value)
            elif isinstance(value, PLAIN):
                key += [type(value), value]  # 1, 1.0 and True are equal, their results are not
            else:
                raise _Uncacheable
        return tuple(key)

    def _tensor_key(self, tensor: FakeTensor) -> tuple[Any, ...]:
        unusual = (
            tensor.fake_mode is not self
            or tensor.constant is not None
            or tensor.layout is not torch.strided
            or tensor.is_conj()
            or tensor.is_neg()
        )
        if unusual:
            raise _Uncacheable
        return (
            FakeTensor,
            tensor.shape,
            tensor.stride(),
            tensor.storage_offset(),
            tensor.dtype,
            tensor.fake_device,
        )

    def _remembered(self, result: Any, args: Sequence[Any]) -> Any:
        """A result as it is remembered."""
        if isinstance(result, (tuple, list)):
            answers = [self._remembered(one, args) for one in result]
            own = [
                _storage(one)
                for one, answer in zip(result, answers, strict=True)
                if isinstance(answer, _NewTensor) and answer.view_of is None
            ]
            if len(set(own)) < len(own):
                raise _Uncacheable
            return answers if isinstance(result, list) else tuple(answers)
        if result is None or type(result) is int:
            return result
        if type(result) is not FakeTensor:
            raise _Uncacheable
        self._tensor_key(result)
        for index, arg in enumerate(args):
            if arg is result:
                return _WrittenOperand(index)
        return self._described(result, args)

    def _described(self, result: FakeTensor, args: Sequence[Any]) -> _NewTensor:
        shape, stride, offset = result.shape, result.stride(), int(result.storage_offset())
        storage = _storage(result)
        view_of = next((i for i, arg in enumerate(args) if _storage(arg) == storage), None)
        if view_of is None:
            span_elements = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
            size_bytes = span_elements * result.element_size() if result.numel() else 0
            unusual = offset or size_bytes != result.untyped_storage().nbytes()
        else:
            source = args[view_of]
            unusual = source.dtype != result.dtype or not isinstance(source, FakeTensor)
        if unusual:
            raise _Uncacheable
        return _NewTensor(shape, stride, result.dtype, result.fake_device, offset, view_of)

    def _rebuilt(self, answer: Any, args: Sequence[Any]) -> Any:
        """A result like the one remembered, of these operands."""
        if answer is None or isinstance(answer, int):
            return answer
        if isinstance(answer, _WrittenOperand):
            return args[answer.index]
        if isinstance(answer, (tuple, list)):
            return type(answer)(self._rebuilt(one, args) for one in answer)
        with in_kernel_invocation_manager(self):
            if answer.view_of is None:
                made = torch.empty_strided(
                    answer.shape, answer.stride, dtype=answer.dtype, device="meta"
                )
            else:
                made = torch.as_strided(
                    args[answer.view_of], answer.shape, answer.stride, answer.offset
                )
        return FakeTensor(self, made, answer.device)


def _settings() -> tuple[Any, ...]:
    """Settings of torch by which fake kernels choose a layout or refuse (the convolution's do)."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.enabled,
        torch.backends.mkldnn.enabled,
    )


def _meta_key(tensor: Tensor) -> tuple[Any, ...]:
    """A weight of a module that was built on the meta device, and is fake once it has moved."""
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        raise _Uncacheable
    return (Tensor, tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype)


def _storage(value: Any) -> int | None:
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None


@cache
def _is_cacheable(func: Any) -> bool:
    """True if an op's result looks the same whenever its operands do."""
    writes_out = any(argument.is_out for argument in func._schema.arguments)
    return (
        func.namespace in ("aten", "prims")
        and UNCACHEABLE_TAGS.isdisjoint(func.tags)
        and not writes_out
    )
