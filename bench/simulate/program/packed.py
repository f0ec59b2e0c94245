"""A traced program as arrays for a file, and back: checked, so that no replay meets nonsense.

Reads and writes nothing itself.
"""

import json
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from bench.simulate.program.program import (
    NEVER,
    Costs,
    Formula,
    Ints,
    PartName,
    Program,
    Slot,
    Span,
    interned,
)
from distill.base.reading import parsed_json
from distill.spec.file_values import OWNERS
from distill.spec.validated import validated
from distill.step.step import Phase

COST_ROWS = ("span_of", "flops", "flops_slope", "traffic", "traffic_slope", "launches")

Index = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(max_length=100)]


class _Details(BaseModel):
    """Spans as (phase, part, slot); formulas as (birth, row, dimensions, slopes)."""

    spans: Annotated[list[tuple[Phase, PartName, Slot]], Field(min_length=1)]
    formulas: list[tuple[Index, Name, tuple[int, ...], tuple[int, ...]]]


def packed(program: Program) -> dict[str, NDArray[Any]]:
    """The program as arrays of numbers and text."""
    ops, op_of = np.unique(program.op.astype(str), return_inverse=True)
    modules, module_of = np.unique(program.module.astype(str), return_inverse=True)
    details = {
        "spans": [[span.phase, span.part, span.slot] for span in program.spans],
        "formulas": [
            [index, formula.row, formula.dims, formula.slopes]
            for index, formula in program.formulas.items()
        ],
    }
    costs = program.costs
    return {
        "details": np.array(json.dumps(details)),
        "births": np.stack(
            [program.base, program.slope, program.death, program.span_of, program.owner_of]
        ),
        "ops": ops,
        "op_of": op_of,
        "modules": modules,
        "module_of": module_of,
        "flags": np.stack([costs.half, costs.by_engine, costs.waits]),
        "costs": np.stack([getattr(costs, name) for name in COST_ROWS]),
    }


def unpacked(arrays: Any) -> Program:
    """The program in the arrays of a file.

    Raises `ValueError` (pydantic's among them), `KeyError` or `TypeError` for arrays that are not
    of one program.
    """
    details: _Details = validated(_Details, parsed_json(str(arrays["details"])))
    base, slope, death, span_of, owner_of = _table(arrays["births"], 5)
    costs = dict(zip(COST_ROWS, _table(arrays["costs"], len(COST_ROWS)), strict=True))
    cost_spans, ops = costs.pop("span_of"), len(costs["flops"])
    births, spans = len(base), len(details.spans)
    _check(bool((base >= 0).all() and (slope >= 0).all()), "a size is negative")
    freed = death != NEVER
    after = np.arange(births) < death
    _check(bool(after[freed].all() and (death <= births).all()), "a death comes before its birth")
    _check(bool((np.diff(span_of) >= 0).all() and (np.diff(cost_spans) >= 0).all()), "no order")
    _check(bool((costs["launches"] >= 0).all()), "a number of launches is negative")
    flags = arrays["flags"]
    _check(flags.dtype == np.bool_ and flags.shape == (3, ops), "its columns differ in length")
    return Program(
        spans=tuple(Span(phase, part, slot) for phase, part, slot in details.spans),
        base=base,
        slope=slope,
        death=death,
        span_of=_indices(span_of, births, spans),
        owner_of=_indices(owner_of, births, len(OWNERS)),
        op=_names(arrays["ops"], arrays["op_of"], births),
        module=_names(arrays["modules"], arrays["module_of"], births),
        formulas=_formulas(details, births),
        costs=Costs(
            span_of=_indices(cost_spans, ops, spans),
            half=flags[0],
            by_engine=flags[1],
            waits=flags[2],
            **costs,
        ),
    )


def _formulas(details: _Details, births: int) -> dict[int, Formula]:
    rows = details.formulas
    _check(all(len(row[2]) == len(row[3]) and row[0] < births for row in rows), "a formula")
    _check(all(one[0] < other[0] for one, other in pairwise(rows)), "formulas in no order")
    return interned({birth: Formula(name, dims, slopes) for birth, name, dims, slopes in rows})


def _table(array: NDArray[Any], rows: int) -> Ints:
    """So many rows of whole numbers."""
    is_one = array.dtype == np.int64 and array.ndim == 2 and len(array) == rows
    _check(is_one, "no table of numbers")
    return array


def _indices(array: NDArray[Any], length: int, bound: int) -> Ints:
    """Numbers of things of which there are `bound`."""
    _check(array.dtype == np.int64 and array.shape == (length,), "its columns differ in length")
    _check(bool(((array >= 0) & (array < bound)).all()), "a number of what is not there")
    return array


def _names(names: NDArray[Any], number_of: NDArray[Any], length: int) -> NDArray[np.object_]:
    _check(names.dtype.kind == "U" and names.ndim == 1, "no list of names")
    found: NDArray[np.object_] = names[_indices(number_of, length, len(names))].astype(object)
    return found


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(f"it holds no program: {otherwise}")
