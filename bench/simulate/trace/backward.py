"""The backward pass, walked from Python in the order in which PyTorch's engine walks it.

The C++ engine insists on a CUDA context as soon as a tensor says it is on CUDA, so fake CUDA
tensors can't go through it. This walks the same nodes in the same order and lets go of each
tensor where the engine does. Rules from torch/csrc/autograd/engine.cpp, input_buffer.cpp and
functions/accumulate_grad.h, release 2.11.

Knows nothing of create_graph, inputs, hooks and anomaly detection, which a training step does not
need, nor of functions whose backward is written in Python: `refusals` has how each is refused.
"""

import contextlib
import heapq
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import GraphExecGroup

from bench.simulate.trace.refusals import Untraceable, refuse_node

Node = Any
"""A `torch.autograd.graph.Node` of C++; torch gives it no useful type."""

_OWN_REFERENCES = 3
"""Python references to a tensor that one local holds: it, the parameter, getrefcount's own."""


class BackwardWalk:
    """One backward pass.

    `on_node` is called before a node runs, `on_gradient` when a leaf gets a gradient of its
    own. `in_place` lets the engine add a second gradient into the first; under a dispatch mode
    it never does (input_buffer.cpp, can_accumulate_inplace).
    """

    def __init__(
        self,
        *,
        in_place: bool = True,
        on_node: Callable[[int], None] = lambda sequence: None,
        on_gradient: Callable[[Tensor], None] = lambda gradient: None,
    ) -> None:
        self.in_place = in_place
        self.on_node = on_node
        self.on_gradient = on_gradient
        self.waiting: dict[Node, int] = {}
        self.buffers: dict[Node, list[Tensor | None]] = {}
        self.ready: list[tuple[int, int, Node]] = []
        self.pushed = 0

    def run(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Fill `.grad` of the leaves below the scalar `loss`, and free the graph as it goes.

        `loss` itself lets go of the graph, as the engine makes every node do; any other tensor
        that still holds a node of it keeps what that node saved. With `retain_graph` it holds
        on, and so nothing that was saved is freed before `loss` is.
        """
        root = loss.grad_fn
        if root is None:
            raise RuntimeError("loss has no graph to walk")
        if torch.is_anomaly_enabled():
            raise Untraceable("anomaly detection can't be traced: it copies every gradient")
        self.waiting = _dependencies(root)
        with torch.no_grad(), GraphExecGroup():
            first = torch.ones_like(loss)  # torch.autograd.backward holds it to the end
            self.buffers[root] = [first]
            if not retain_graph:
                loss.detach_()
            self._push(root)
            del root, loss  # else these two hold all nodes until the walk ends
            while self.ready:
                self._evaluate(heapq.heappop(self.ready)[2])

    def after(self, node: Node) -> None:
        """Called when a node has run; here what it saved goes with it."""

    def _push(self, node: Node) -> None:
        """Newest node first; leaves carry the largest number and so run at once."""
        self.pushed += 1
        heapq.heappush(self.ready, (-node._sequence_nr(), self.pushed, node))

    def _evaluate(self, node: Node) -> None:
        self.on_node(node._sequence_nr())
        gradients = self.buffers.pop(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            self._accumulate_leaf(node.variable, gradients)
            return
        outputs = _call(node, gradients)
        following = node.next_functions
        _validate(outputs, following)
        self.after(node)
        del gradients, node  # in this order: the engine frees inputs, then what was saved
        for index in range(len(following)):
            output, outputs[index] = outputs[index], None
            next_node, slot = following[index]
            if next_node is not None:
                self._deliver(next_node, slot, output)
            del output, next_node

    def _deliver(self, node: Node, slot: int, gradient: Tensor | None) -> None:
        buffer = self.buffers.get(node)
        if buffer is None:
            buffer = self.buffers[node] = [None] * len(node._input_metadata)
        if gradient is not None:
            held, buffer[slot] = buffer[slot], None
            if held is None:
                buffer[slot] = gradient
            elif self.in_place and _is_only_owner(held):
                buffer[slot] = held.add_(gradient)
            else:
                buffer[slot] = held + gradient
        self.waiting[node] -= 1
        if not self.waiting[node]:
            del self.waiting[node]
            self._push(node)

    def _accumulate_leaf(self, leaf: Tensor, gradients: list[Tensor | None]) -> None:
        """Steal the gradient if nobody else holds it and it lies like the leaf, else copy it."""
        if leaf._backward_hooks or leaf._post_accumulate_grad_hooks:
            raise Untraceable("a hook on a parameter can't be traced: it is not called")
        gradient = gradients.pop()
        if gradient is None:
            return
        if leaf.grad is not None:
            leaf.grad.add_(gradient)
            return
        alone = sys.getrefcount(gradient) < _OWN_REFERENCES and _uses(gradient) == 1
        if alone and _lies_like(gradient, leaf):
            leaf.grad = gradient.detach()
        else:
            leaf.grad = torch.empty_like(leaf).copy_(gradient)
        self.on_gradient(leaf.grad)


def _dependencies(root: Node) -> dict[Node, int]:
    """The number of edges that lead to each node (Engine::compute_dependencies)."""
    counts: dict[Node, int] = {}
    seen, stack = {root}, [root]
    while stack:
        here = stack.pop()
        refuse_node(here)
        for node, _ in here.next_functions:
            if node is None:
                continue
            counts[node] = counts.get(node, 0) + 1
            if node not in seen:
                seen.add(node)
                stack.append(node)
    return counts


class InPlaceOps(TorchDispatchMode):
    """Ops that C++ does in place, but not on subclasses of a tensor, as fake ones are."""

    def __init__(self, ops: dict[Any, Any]) -> None:
        super().__init__()
        self.ops = ops

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.ops.get(func, func)(*args, **(kwargs or {}))


ATEN = torch.ops.aten
SELECTED = {ATEN.scatter.src: ATEN.scatter_.src}

IN_PLACE = {
    "GatherBackward0": {ATEN.scatter_add.default: ATEN.scatter_add_.default},
    "IndexSelectBackward0": {ATEN.index_add.default: ATEN.index_add_.default},
    **dict.fromkeys(("SortBackward0", "SortBackward1", "TopkBackward0"), SELECTED),
    **dict.fromkeys(("MaxBackward0", "MinBackward0"), SELECTED),
    "BinaryCrossEntropyWithLogitsBackward0": {
        ATEN.sub.Tensor: ATEN.sub_.Tensor,
        ATEN.mul.Tensor: ATEN.mul_.Tensor,
    },
}
"""Nodes that write in place, and what (TensorAdvancedIndexing.cpp, gather_backward and
index_select_backward; ReduceOps.cpp, value_selecting_reduction_backward; Loss.cpp)."""


def _call(node: Node, gradients: list[Tensor | None]) -> list[Tensor | None]:
    ops = IN_PLACE.get(node.name())
    with contextlib.nullcontext() if ops is None else InPlaceOps(ops):
        outputs = node(*gradients)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _validate(outputs: list[Tensor | None], following: tuple[tuple[Node, int], ...]) -> None:
    """Bring each output to the shape and type that its consumer expects (validate_outputs)."""
    for index, (node, slot) in enumerate(following):
        output = outputs[index]
        if node is None or output is None:
            continue
        expected = node._input_metadata[slot]
        if tuple(output.shape) != tuple(expected.shape):
            outputs[index] = output = output.sum_to_size(expected.shape)
        if output.dtype != expected.dtype:
            outputs[index] = output.to(expected.dtype)


def _lies_like(gradient: Tensor, leaf: Tensor) -> bool:
    """True if a leaf may keep this very gradient (utils/grad_layout_contract.h).

    A dimension of size 1 may have any stride but 0: with one image the class token's gradient is a
    part of a larger one, which then lives on with it.
    """
    if not torch.ops.aten.is_non_overlapping_and_dense(leaf):
        return gradient.is_contiguous()
    return all(
        here == there if size != 1 else here != 0
        for size, here, there in zip(gradient.shape, gradient.stride(), leaf.stride(), strict=True)
    )


def _is_only_owner(held: Tensor) -> bool:
    """True if nobody but the caller holds the tensor and its storage, and it has no gaps."""
    return (
        sys.getrefcount(held) <= _OWN_REFERENCES
        and _uses(held) == 1
        and torch._C._storage_Use_Count(held.untyped_storage()._cdata) <= 2
        and torch.ops.aten.is_non_overlapping_and_dense(held)
    )


def _uses(tensor: Tensor) -> int:
    """References from C++: 1 is the Python object's own."""
    return int(tensor._use_count())  # type: ignore[attr-defined]
