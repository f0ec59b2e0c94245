"""The most images a second of a card, from arithmetic and traffic. Pure.

Williams, Waterman, Patterson 2009: an op takes at least its arithmetic at the peak rate and at
least its traffic at the peak bandwidth. Launches, caches and clocks under load are left out, so
this is a bound, called an estimate nowhere but in its own name.
"""

import numpy as np

from bench.simulate.program.program import PartName, Program, Slot
from distill.spec.profile import Target


def part_seconds(program: Program, target: Target, batch: int) -> dict[PartName, float]:
    """The least time of each part of a program, every slot at `batch`."""
    slots: dict[Slot, int] = {"train": batch, "last": batch, "evaluate": batch}
    costs = program.costs
    # As floats: integers of 64 bits would run over where batch and image are large.
    there = program.batches(slots)[costs.span_of].astype(float)
    flops = costs.flops + costs.flops_slope * there
    traffic = costs.traffic + costs.traffic_slope * there
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
