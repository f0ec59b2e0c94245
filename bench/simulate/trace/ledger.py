"""Every storage of one device: its birth and its free, the op, the owner.

A dispatch mode that watches ops from above. It counts the storages of real and of fake tensors
alike. Allocations inside a kernel it can't see: it asks `kernels` for those. Knows nothing of
blocks and segments (that is `allocator`).
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from bench.simulate.program.program import NEVER, Birth, Cost, Formula, HiddenAllocation, Span
from bench.simulate.trace.costs import name_of, op_cost, tensors_in
from bench.simulate.trace.on_card import results_on_card
from distill.spec.file_values import Owner


class Kernels(Protocol):
    """A function that gives the allocations inside a kernel (`kernels.KernelTable` is one)."""

    def __call__(
        self, op: str, args: Sequence[Any], outputs: Sequence[Tensor]
    ) -> Sequence[HiddenAllocation]: ...


def no_kernels(
    op: str, args: Sequence[Any], outputs: Sequence[Tensor]
) -> Sequence[HiddenAllocation]:
    """Kernels that allocate nothing."""
    return ()


class Ledger(TorchDispatchMode):
    """Records births, frees and costs while active. `models` gives modules their names."""

    def __init__(
        self, device_type: str, models: dict[str, nn.Module], kernels: Kernels = no_kernels
    ) -> None:
        super().__init__()
        self.device_type = device_type
        self.kernels = kernels
        self.names = {
            id(module): f"{owner}.{path}".rstrip(".")
            for owner, model in models.items()
            for path, module in model.named_modules()
        }
        self.births: list[Birth] = []
        self.deaths: list[int] = []
        self.costs: list[Cost] = []
        self.spans: list[Span] = []
        self.live: dict[int, int] = {}
        self._watch: dict[int, weakref.ref[Any]] = {}
        self._elsewhere: set[int] = set()
        self.module_of_sequence: dict[int, str] = {}
        self.persistent: set[str] = set()
        self.thread = "main"
        self._path: list[str] = []
        self._recomputed_from: int | None = None

    # -- what the tracer tells

    def begin(self, span: Span) -> None:
        """Start a new span; what is alive when a backward begins was kept for it."""
        if span.phase == "backward":
            self._keep("activations", self._first_birth_of_micro_batch())
        self.spans.append(span)

    def claim(self, tensor: Tensor, owner: Owner) -> None:
        """Say whom a tensor's storage belongs to; one that was there before is born now."""
        storage = tensor.untyped_storage()
        if tensor.device.type != self.device_type:
            return
        if storage._cdata not in self.live:
            self._register(storage, "")
        self.births[self.live[storage._cdata]].owner = owner

    @contextmanager
    def backward_thread(self) -> Iterator[None]:
        """Kernels inside are launched from the engine's thread, which has its own handles."""
        before, self.thread = self.thread, "backward"
        try:
            yield
        finally:
            self.thread = before

    def enter_node(self, sequence: int) -> None:
        """The backward of the op with that sequence number runs next."""
        self._path = [self.module_of_sequence.get(sequence, "")]

    @contextmanager
    def module_names(self) -> Iterator[None]:
        """Follow which module is running, by torch's own global hooks."""
        started: list[int] = []

        def enter(module: nn.Module, inputs: Any) -> None:
            if self._in_backward and not started:
                self._recomputed_from = len(self.births)
            started.append(torch._C._autograd._get_sequence_nr())
            self._path.append(self.names.get(id(module), type(module).__name__))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            first, name = started.pop(), self._path.pop()
            if not self._in_backward:
                for sequence in range(first, torch._C._autograd._get_sequence_nr()):
                    self.module_of_sequence.setdefault(sequence, name)
            elif not started and self._recomputed_from is not None:
                self._keep("activations", self._recomputed_from)
                self._recomputed_from = None

        handles = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # -- what torch tells

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it costs at every op

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].device  # two in three calls: C++ asks what each operand poses as
        # What is asked of a tensor from here on needs no rerouting, which costs at each question.
        with torch._C.DisableTorchFunction():
            return self._record(func, args, kwargs)

    def _record(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any] | None) -> Any:
        """Run an op and enter what it allocated, freed and cost; gives its result."""
        result = func(*args, **(kwargs or {}))
        given = result if isinstance(result, tuple) else (result,)
        results = results_on_card(func, args, given)
        self._set_aside(one for one in given if all(one is not other for other in results))
        hidden = self.kernels(name_of(func), args, tensors_in(results)) if self.spans else ()
        for index, outlives in self._born_in_order(func, args, results, hidden):
            self.deaths[index] = len(self.births) if outlives is None else index + 1 + outlives
        if self.spans:
            self.costs += op_cost(
                func,
                args,
                kwargs,
                result,
                len(self.spans) - 1,
                device_type=self.device_type,
                # what is run again for backward Python asks for, as in the forward
                by_engine=self.thread == "backward" and self._recomputed_from is None,
            )
        return result

    def _born_in_order(
        self,
        func: Any,
        args: Sequence[Any],
        results: Sequence[Any],
        hidden: Sequence[HiddenAllocation],
    ) -> list[tuple[int, int | None]]:
        """Enter what a call allocates, each where it does; gives the hidden ones that end."""
        ends = self._born_hidden([one for one in hidden if one.before], func)
        for place, result in enumerate(results):
            for tensor in tensors_in((result,)):
                if self._is_new(tensor, func):
                    self._born(tensor, func, args)
            ends += self._born_hidden([one for one in hidden if one.after_output == place], func)
        behind = [one for one in hidden if not one.before and one.after_output is None]
        return ends + self._born_hidden(behind, func)

    def _is_new(self, tensor: Tensor, func: Any) -> bool:
        here = tensor.device.type == self.device_type
        # flash attention's seed and offset are on the device, though fake kernels say "meta"
        seed = tensor.device.type == "meta" and "flash_attention" in func.__name__
        if not (here or seed):
            return False
        storage = tensor.untyped_storage()
        elsewhere = storage._cdata in self._elsewhere
        return storage.nbytes() > 0 and not elsewhere and not self._is_alive(storage)

    def _set_aside(self, results: Iterable[Any]) -> None:
        """Count results that only fake kernels put on the device as never born."""
        for tensor in tensors_in(tuple(results)):
            storage = tensor.untyped_storage()
            self._elsewhere.add(storage._cdata)
            weakref.finalize(storage, self._elsewhere.discard, storage._cdata)

    def _is_alive(self, storage: torch.UntypedStorage) -> bool:
        """True if the storage was born and has not grown since, which makes it another one."""
        index = self.live.get(storage._cdata)
        return index is not None and self.births[index].size_bytes >= storage.nbytes()

    def _born(self, tensor: Tensor, func: Any, args: Sequence[Any]) -> None:
        storage = tensor.untyped_storage()
        if self._is_alive(storage):
            return
        index = self._register(storage, name_of(func))
        source = next(iter(tensors_in(args)), None)
        copies = "_to_copy" in name_of(func)
        if copies and source is not None and self._owner_of(source) == "weights":
            self.births[index].owner = "low_precision_weights"
        elif self.spans and self.spans[-1].phase == "teacher":
            self.births[index].owner = "teacher"

    def _born_hidden(
        self, hidden: Sequence[HiddenAllocation], func: Any
    ) -> list[tuple[int, int | None]]:
        """Enter the allocations inside a kernel, in order; gives those that end, and after what.

        A workspace that a handle keeps is born once and does not end.
        """
        ends: list[tuple[int, int | None]] = []
        for one in hidden:
            if one.kept_by is not None and not self._first_of(f"{one.kept_by}/{self.thread}"):
                continue
            if one.kept_by is None:
                ends.append((len(self.births), one.outlives))
            formula = Formula(one.row, one.dims, (0,) * len(one.dims))
            self._append(
                Birth(one.size_bytes, name_of(func), self._module, self._span, one.owner, formula)
            )
        return ends

    def _first_of(self, key: str) -> bool:
        """True if this handle had no workspace yet; it has one from now on."""
        fresh = key not in self.persistent
        self.persistent.add(key)
        return fresh

    def _register(self, storage: torch.UntypedStorage, op: str) -> int:
        """A birth for a storage, and a watch on its end.

        One that grows is born again, copied, and its old bytes are freed (resize_bytes_cuda in
        aten/src/ATen/native/cuda/Resize.cpp, 2.11).
        """
        key, index = storage._cdata, len(self.births)
        self._append(Birth(storage.nbytes(), op, self._module, self._span, None))
        if key in self.live:
            self.deaths[self.live[key]] = index + 1
        self.live[key] = index
        self._watch[key] = weakref.ref(storage, lambda _: self._die(key, index))
        return index

    def _append(self, birth: Birth) -> None:
        self.births.append(birth)
        self.deaths.append(NEVER)

    def _die(self, key: int, index: int) -> None:
        del self.live[key], self._watch[key]
        self.deaths[index] = len(self.births)

    # -- small questions

    def alive_since(self, first: int) -> list[Birth]:
        """What was born from number `first` on and is alive; not what kernels keep."""
        return [self.births[index] for index in sorted(self.live.values()) if index >= first]

    @property
    def _span(self) -> int:
        return len(self.spans) - 1

    @property
    def _module(self) -> str:
        return self._path[-1] if self._path else ""

    @property
    def _in_backward(self) -> bool:
        return bool(self.spans) and self.spans[-1].phase == "backward"

    def _owner_of(self, tensor: Tensor) -> Owner | None:
        index = self.live.get(tensor.untyped_storage()._cdata)
        return None if index is None else self.births[index].owner

    def _first_birth_of_micro_batch(self) -> int:
        """The number of the first birth of the micro-batch that is running."""
        first = len(self.spans)
        while first and self.spans[first - 1].part == self.spans[-1].part:
            first -= 1
        return next((i for i, b in enumerate(self.births) if b.span >= first), len(self.births))

    def _keep(self, owner: Owner, first: int) -> None:
        """Give `owner` all that was born since `first`, is alive and belongs to nobody."""
        for index in self.live.values():
            if index >= first and self.births[index].owner is None:
                self.births[index].owner = owner
