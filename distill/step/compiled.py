"""`torch.compile` of a model's blocks, one by one: an option of a run, off by default.

Blocks of one kind are alike, so that a graph that was compiled for the first serves them all.
Training and evaluating take a graph each, and so does every other number of images. They are
compiled in place (`nn.Module.compile`): keys stay as they are, and a run may go on without.
Always the same way: Inductor as it comes, whole graphs, no dynamic shapes, no CUDA graphs.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from distill.base.errors import UserError
from distill.spec.candidate import Candidate
from distill.step.checkpointing import BLOCK_LISTS

# `torch._dynamo` is loaded as it is first named, which takes seconds (torch/__init__.py).

BACKEND = "inductor"

MOST_GRAPHS = 64
"""Of one kind of block in a process: a chain of three stages takes about twenty."""

CXX_COMPILERS, C_COMPILERS = ("g++", "clang++", "c++"), ("gcc", "clang", "cc")
"""What Inductor builds with on a CPU, and what Triton builds its launchers with on a card."""


def check_compilable(candidate: Candidate, device_type: str) -> None:
    """Refuse before anything is loaded what `compile_blocks` would have to refuse later.

    Raises `UserError` for checkpointing `cheap` and where there is no compiler.
    """
    if candidate.checkpointing == "cheap":
        raise UserError(
            f"Stage {candidate.stage} has checkpointing cheap, which keeps the results of single "
            "products: compiled blocks call none. Leave out --compile, or take --checkpointing 1."
        )
    names, variable = (CXX_COMPILERS, "CXX") if device_type == "cpu" else (C_COMPILERS, "CC")
    if not any(shutil.which(name) for name in (os.environ.get(variable) or "", *names)):
        raise UserError(
            f"--compile needs a compiler, and there is no {' or '.join(names)} here. Install one, "
            f"name it in {variable}, or leave out --compile."
        )


def compile_blocks(models: Sequence[nn.Module]) -> None:
    """Have each block compiled as it is first called. Raises `UserError` for a model without."""
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    for model in models:
        for block in blocks_of(model):
            block.compile(backend=BACKEND, fullgraph=True, dynamic=False)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks that are compiled, each by itself. Raises `UserError` for a model without."""
    lists = [getattr(model, name, None) for name in BLOCK_LISTS]
    blocks = [block for found in lists if isinstance(found, nn.Sequential) for block in found]
    if not blocks:
        raise UserError(
            f"{type(model).__name__} has no list of blocks that could be compiled one by one. "
            "Leave out --compile, or take a vision transformer or a ResNet."
        )
    return blocks


class CompileWatch:
    """Counts the graphs that were compiled, and the seconds that it took."""

    def __init__(self) -> None:
        self._before = _so_far()
        self._is_first = True

    def news(self) -> str | None:
        """A sentence on what was compiled since the last call, if anything was."""
        now = _so_far()
        graphs, seconds = now[0] - self._before[0], now[1] - self._before[1]
        again, self._before, self._is_first = not self._is_first, now, False
        if not graphs:
            return None
        why = ": a number of images or a setting is new" if again else ""
        return (
            f"compiled {graphs} graph(s) of blocks{' again' if again else ''} in {seconds:.0f} s, "
            f"which the epoch's times include{why}"
        )


@contextlib.contextmanager
def compile_failures_told(*, asked: bool = True) -> Iterator[None]:
    """Tell a block that can't be compiled as a `UserError` with its cure, if `asked` to."""
    if not asked:
        yield
        return
    told = torch._dynamo.exc
    try:
        yield
    except (told.FailOnRecompileLimitHit, told.TorchDynamoException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"A block can't be compiled as one graph: {reason.rstrip('.')}. What was saved is "
            "kept; go on without --compile."
        ) from error


def _so_far() -> tuple[int, float]:
    """Graphs that this process compiled, and the seconds of it (torch._dynamo.utils, 2.11)."""
    counted = torch._dynamo.utils
    seconds: float = counted.calculate_time_spent()["total_wall_time"]
    return counted.counters["stats"]["unique_graphs"], seconds
