"""Reductions other than sums: min and max, argmin and argmax, variance, any and all.

Each has the scratch of Reduce.cuh with an accumulator of its own (ReduceMaxValuesKernel.cu,
ReduceArgMaxKernel.cu, ReduceMomentKernel.cu, ReduceLogicKernel.cu, torch 2.11).
"""

from collections.abc import Sequence
from typing import Any

from bench.simulate.kernels.elementwise import at_least, operand_dims, reduction_rows
from bench.simulate.kernels.row import Dims

VALUES = ("aten.amax.default", "aten.amin.default", "aten.max.default", "aten.min.default")
TRUTHS = (
    *("aten.any.default", "aten.any.dim", "aten.any.dims"),
    *("aten.all.default", "aten.all.dim", "aten.all.dims"),
)
PLACES = ("aten.max.dim", "aten.min.dim", "aten.argmax.default", "aten.argmin.default")
MOMENTS = (
    *("aten.var.correction", "aten.std.correction", "aten.var_mean.correction"),
    "aten.std_mean.correction",
)

PAIR_BYTES = 16
"""A value and its place, or a mean, a sum of squares and two counts."""


def _reduced(args: Sequence[Any]) -> Dims | None:
    """The operand: reduced are the dimension or dimensions that are named, or all."""
    if not args[0].dim():
        return None
    named = args[1] if len(args) > 1 else None
    return operand_dims(args[0], [named] if isinstance(named, int) else named)


EXTREME_ROWS = (
    *reduction_rows("value of a reduction", VALUES, _reduced, at_least(1)),
    *reduction_rows(
        "any or all", TRUTHS, _reduced, lambda item_bytes, rules: rules.truth_bytes or item_bytes
    ),
    *reduction_rows("place of a value", PLACES, _reduced, at_least(PAIR_BYTES)),
    *reduction_rows("variance", MOMENTS, _reduced, at_least(PAIR_BYTES)),
)
