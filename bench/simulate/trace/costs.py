"""Arithmetic and memory traffic of ops, for the roofline.

Counts come from torch's own formulas (torch/utils/flop_counter.py); traffic is every operand
and result once. An op that only looks at memory in another way costs nothing.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from bench.simulate.program.program import Cost


def op_cost(
    func: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    result: Any,
    span: int,
) -> list[Cost]:
    """The cost of one op that gave `result`, or nothing for a view."""
    if _is_view(func):
        return []
    operands = list(tensors_in([*args, *(kwargs or {}).values()]))
    traffic_bytes = sum(t.nbytes for t in [*operands, *tensors_in(result)])
    flops = 0
    formula = flop_registry.get(func.overloadpacket)
    if formula is not None:
        flops = int(formula(*args, **(kwargs or {}), out_val=result))
    half = bool(operands) and operands[0].dtype in (torch.float16, torch.bfloat16)
    return [Cost(span, flops, traffic_bytes, half)]


@cache
def name_of(func: Any) -> str:
    """An op's name with its overload, which torch puts together anew each time."""
    return str(func)


@cache
def _is_view(func: Any) -> bool:
    """True if a result shares memory with an operand that is not written."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an argument or a result, lists and tuples opened."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
