"""The roofline bound: the most images a second of a card. Pure.

An op takes at least its arithmetic at the peak rate and at least its traffic at the peak bandwidth
(Williams, Waterman, Patterson 2009). Launches, caches and clocks under load are left out.
"""

import numpy as np

from bench.simulate.program.program import PartName, Program
from distill.spec.profile import Target


def part_seconds(program: Program, target: Target, batch: int) -> dict[PartName, float]:
    """The least time of each part of a program, every slot at `batch`."""
    costs, (flops, traffic) = program.costs, program.work(batch)
    rate = np.where(costs.half, target.half_flops, target.fp32_flops)
    seconds = np.maximum(flops / rate, traffic / target.bandwidth_bytes)
    totals: dict[PartName, float] = {}
    for span, total in enumerate(np.bincount(costs.span_of, seconds, len(program.spans))):
        part = program.spans[span].part
        totals[part] = totals.get(part, 0.0) + float(total)
    return totals


def images_per_second(program: Program, target: Target, batch: int, accumulation: int) -> float:
    """Images a second that training, or a teacher alone, can reach at most."""
    seconds = part_seconds(program, target, batch)
    if "teach" in seconds:
        return batch / seconds["teach"]
    update = seconds["again"] + (accumulation - 1) * seconds["more"] + seconds["update"]
    return batch * accumulation / update
