"""A program traced at two batch sizes: every size as a straight line between them. Pure."""

from dataclasses import replace

import numpy as np

from bench.simulate.program.program import Formula, Ints, Program, int64_array, interned


class NotLinear(Exception):
    """Two batch sizes ran different ops, or sizes are no straight line in the batch."""


def fit(one: Program, one_batch: int, other: Program, other_batch: int) -> Program:
    """The program at any batch size, through two that each ran at one.

    Raises `NotLinear` where they are not the same program, or where a size is no straight line.
    Two things show that: a slope that is no whole number of bytes (a difference of the batches that
    is prime seldom hides one), and fewer than 0 bytes at batch 0, as a power of the batch has.
    """
    _check_same(one, other)
    step = other_batch - one_batch
    difference = other.base - one.base
    difference[list(one.formulas)] = 0  # a row of the kernel table knows its size itself
    slope = _divided(difference, step)
    flops_slope = _divided(other.costs.flops - one.costs.flops, step)
    traffic_slope = _divided(other.costs.traffic - one.costs.traffic, step)
    base = one.base - slope * one_batch
    if np.any(np.delete(base, list(one.formulas)) < 0):
        raise NotLinear("sizes grow faster than the batch")
    return replace(
        one,
        base=base,
        slope=slope,
        formulas=interned(
            {
                index: _fit_formula(formula, one_batch, other.formulas[index], step)
                for index, formula in one.formulas.items()
            }
        ),
        costs=replace(
            one.costs,
            flops=one.costs.flops - flops_slope * one_batch,
            flops_slope=flops_slope,
            traffic=one.costs.traffic - traffic_slope * one_batch,
            traffic_slope=traffic_slope,
        ),
    )


def _check_same(one: Program, other: Program) -> None:
    same = (
        one.spans == other.spans
        and np.array_equal(one.op, other.op)
        and np.array_equal(one.death, other.death)
        and np.array_equal(one.owner_of, other.owner_of)
        and _rows(one) == _rows(other)
        and np.array_equal(one.costs.span_of, other.costs.span_of)
    )
    if not same:
        raise NotLinear("the two batch sizes run different ops")


def _rows(program: Program) -> dict[int, str]:
    return {index: formula.row for index, formula in program.formulas.items()}


def _fit_formula(one: Formula, one_batch: int, other: Formula, step: int) -> Formula:
    slopes = tuple(int(s) for s in _divided(int64_array(other.dims) - int64_array(one.dims), step))
    dims = tuple(d - s * one_batch for d, s in zip(one.dims, slopes, strict=True))
    return Formula(one.row, dims, slopes)


def _divided(difference: Ints, step: int) -> Ints:
    if np.any(difference % step):
        raise NotLinear("sizes grow by parts of a byte an image")
    return difference // step
