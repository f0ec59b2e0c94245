"""A backward after which no node holds what it saved, as after PyTorch's engine.

The step of `distill` lets go of its tensors before it walks back. A user's may hold its logits, and
through them the whole graph, as long as it runs; the engine leaves nothing of that
(torch/csrc/autograd/engine.cpp, evaluate_function: release_variables, 2.11).
"""

import contextlib
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

from torch import Tensor
from torch.utils.checkpoint import _CheckpointFrame, _Holder

from bench.simulate.trace.backward import BackwardWalk
from bench.simulate.trace.refusals import Untraceable

OVER_ALL = "the gradient of an extreme of all numbers"
WITHOUT_RULE = {"MaxBackward1": OVER_ALL, "MinBackward1": OVER_ALL}
"""Nodes that do otherwise with a fake tensor (FunctionsManual.cpp, evenly_distribute_backward)."""


class ReleasingWalk(BackwardWalk):
    """A walk that takes from each node what it saved, once it has run."""

    keeps = False

    def run(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Fill the gradients below `loss`; with `retain_graph` nothing lets go."""
        self.keeps = retain_graph
        super().run(loss, retain_graph=retain_graph)

    def after(self, node: Any) -> None:
        """Let go of the tensors that a node saved for its backward."""
        if node.name() in WITHOUT_RULE:
            raise Untraceable(f"{node.name()}, {WITHOUT_RULE[node.name()]}, has no rule")
        if not self.keeps:
            release(node)


def release(node: Any) -> None:
    """Take from a node what it saved, by giving it hooks that keep nothing in its place."""
    for name in _saved_names(cast(Hashable, type(node))):
        saved = getattr(node, name)
        for one in saved if isinstance(saved, tuple) else (saved,):
            if isinstance(one.data, _Holder):
                _release_recomputed(one)
                continue
            with contextlib.suppress(RuntimeError):  # nothing saved, or hooks of the step's own
                one.register_hooks(_nothing, _gone)


def _release_recomputed(saved: Any) -> None:
    """Let go of what checkpointing made again, and of its inputs with the last of a block."""
    saved.data.handles.clear()
    saved.data.is_released = True
    for cell in saved.unpack_hook.__closure__ or ():
        frame = cell.cell_contents
        if isinstance(frame, _CheckpointFrame):
            holders = [holder() for holder in frame.weak_holders]
            if all(one is None or hasattr(one, "is_released") for one in holders):
                frame.input_saver = None


@cache
def _saved_names(kind: Hashable) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _nothing(tensor: Tensor) -> None:
    """What is kept in a released tensor's place."""


def _gone(kept: None) -> Tensor:
    raise RuntimeError("Trying to backward through the graph a second time")
