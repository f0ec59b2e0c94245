"""Arithmetic, memory traffic and launches of ops, for the time of a step.

Counts of arithmetic come from torch's own formulas (torch/utils/flop_counter.py); traffic is every
operand and result once. An op that only looks at memory in another way costs nothing. One that
runs on the device is one launch; one over a list of tensors takes as many as PyTorch cuts it into.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from bench.simulate.program.program import Cost

CHUNK = 65536
"""Numbers of one list's tensor that one block of a kernel over lists takes."""

BLOCKS = 320
"""Blocks of one such kernel."""

TENSORS = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""Tensors a list of one such kernel, by the number of lists (MultiTensorApply.cuh, torch 2.11)."""


def op_cost(
    func: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    result: Any,
    span: int,
    *,
    device_type: str = "cuda",
    by_engine: bool = False,
) -> list[Cost]:
    """The cost of one op that gave `result`, or nothing for a view."""
    if _is_view(func):
        return []
    operands = tensors_in([*args, *(kwargs or {}).values()])
    results = tensors_in((result,))
    traffic_bytes = sum(t.nbytes for t in [*operands, *results])
    flops = _flops(func, args, kwargs or {}, result)
    half = bool(operands) and operands[0].dtype in (torch.float16, torch.bfloat16)
    here = bool(results) and results[0].device.type == device_type  # what a tensor is asked costs
    runs = (here or _any_on(operands, device_type)) and not _only_allocates(func)
    leaves = bool(results) and not here  # for the CPU
    reads = runs and leaves and not (kwargs or {}).get("non_blocking", False)
    launches = _launches(func, args) if runs else 0
    return [Cost(span, flops, traffic_bytes, half, launches, by_engine, reads)]


def _flops(func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> int:
    """What torch's formula says of an op; 0 where it has none."""
    formula = flop_registry.get(func.overloadpacket)
    if formula is None:
        return 0
    of_shapes = getattr(formula, "__wrapped__", None)
    if of_shapes is None or kwargs:
        return int(formula(*args, **kwargs, out_val=result))
    # torch's wrapper looks for tensors in whatever is nested, which takes longer than the formula
    return int(of_shapes(*map(_shape, args), out_shape=_shape(result)))


def _shape(value: Any) -> Any:
    """A tensor's shape, and so in a tuple of results; anything else as it is."""
    if isinstance(value, Tensor):
        return value.shape
    return tuple(map(_shape, value)) if isinstance(value, tuple) else value


def _launches(func: Any, args: Sequence[Any]) -> int:
    """Kernels of an op that runs: one, or of one over lists as many as it is cut into."""
    if not _takes_lists(func):
        return 1
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and len(arg) > 0]
    tensors = [t for t in lists[0] if isinstance(t, Tensor)] if lists else []
    blocks = sum(-(-t.numel() // CHUNK) for t in tensors)
    at_once = TENSORS[min(max(len(lists), 1), max(TENSORS))]
    return max(1, -(-blocks // BLOCKS), -(-len(tensors) // at_once))


def _any_on(tensors: Sequence[Tensor], device_type: str) -> bool:
    return any(t.device.type == device_type for t in tensors)


@cache
def name_of(func: Any) -> str:
    """An op's name with its overload, which torch puts together anew each time."""
    return str(func)


@cache
def _takes_lists(func: Any) -> bool:
    return "_foreach_" in name_of(func) or "_fused_" in name_of(func)


@cache
def _only_allocates(func: Any) -> bool:
    """True for ops that have the card do nothing: memory is taken and left as it is."""
    name = name_of(func)
    return name.startswith("profiler.") or any(
        f"aten.{made}" in name for made in ("empty", "new_empty", "resize_")
    )


@cache
def _is_view(func: Any) -> bool:
    """True if a result shares memory with an operand that is not written."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments or results, lists and tuples opened."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found
