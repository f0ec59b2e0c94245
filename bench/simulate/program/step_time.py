"""The time of a step from its kernels and launches. Pure.

A kernel takes its arithmetic at the rate that products reach or its traffic at the card's
bandwidth, whichever is longer (Williams, Waterman, Patterson 2009, kernel by kernel). It begins
once the host has launched it and the card is done with the one before. So the card waits where the
host is late, and the host where it copies a result. Left out: caches, clocks under load, the time
that a launch takes on the card, copies over the bus, and what the gradient scaler reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.simulate.program.program import Floats, PartName, Program
from distill.spec.calibration import ASSUMED, Calibration
from distill.spec.candidate import Candidate
from distill.spec.profile import Target
from distill.spec.step_times import PredictedTiming

ENGINE_SHARE = 0.2
"""A launch that autograd's engine asks for, from C++, as a share of one that Python asks for. Read
from every second trial of results/evidence/h200/trials.jsonl.gz: from 0.1 to 0.25 fit alike."""


@dataclass(frozen=True)
class _Kernels:
    """Kernels in their order: seconds on the card, seconds that the host takes to launch each.

    `is_product`: arithmetic is the longer. `waits`: the host goes on when the card is done.
    """

    card: Floats
    host: Floats
    launches: NDArray[np.int64]
    is_product: NDArray[np.bool_]
    waits: NDArray[np.bool_]

    def of(self, rows: NDArray[np.intp]) -> "_Kernels":
        """Those of some rows, in that order."""
        return _Kernels(
            self.card[rows],
            self.host[rows],
            self.launches[rows],
            self.is_product[rows],
            self.waits[rows],
        )


def predicted_timing(program: Program, target: Target, candidate: Candidate) -> PredictedTiming:
    """The time of the candidate's update on a card, and of an evaluation.

    With the card's own constants where they were measured, else with `ASSUMED`. Of a pass that
    caches logits it is the time of one batch.
    """
    calibration = target.calibration or ASSUMED
    more: list[PartName] = ["more"] * (candidate.accumulation - 1)
    parts: list[PartName] = ["again", *more, "update"]
    if candidate.teacher_logits == "caching":
        parts = ["teach"]
    kernels = _kernels(program, target, calibration, candidate.micro_batch)
    update = kernels.of(_rows(program, parts))
    busy = float(update.card.sum())
    products = float(update.card[update.is_product].sum())
    images = candidate.images_evaluated_at_once
    evaluation = _kernels(program, target, calibration, images).of(_rows(program, ["evaluate"]))
    evaluation_seconds = _elapsed(evaluation)
    return PredictedTiming(
        product_seconds=products,
        memory_seconds=busy - products,
        host_seconds=max(0.0, _elapsed(update) - busy),
        launches=int(update.launches.sum()),
        launching_seconds=float(update.host.sum()),
        evaluated_per_second=images / evaluation_seconds if evaluation_seconds else 0.0,
        calibration=calibration,
    )


def _kernels(program: Program, target: Target, calibration: Calibration, batch: int) -> _Kernels:
    """Every op of the program at a batch size; one that does not run takes no time."""
    costs, (flops, traffic) = program.costs, program.work(batch)
    rate = np.where(costs.half, target.half_flops, target.fp32_flops)
    computing = flops / (rate * calibration.product_efficiency)
    moving = traffic / target.bandwidth_bytes
    share = np.where(costs.by_engine, ENGINE_SHARE, 1.0)
    return _Kernels(
        card=np.maximum(computing, moving) * (costs.launches > 0),
        host=calibration.launch_seconds * share * costs.launches,
        launches=costs.launches,
        is_product=computing > moving,
        waits=costs.waits,
    )


def _rows(program: Program, parts: Sequence[PartName]) -> NDArray[np.intp]:
    """The ops of some parts, in that order."""
    part_of = np.array([span.part for span in program.spans])[program.costs.span_of]
    rows = {part: np.flatnonzero(part_of == part) for part in dict.fromkeys(parts)}
    return np.concatenate([rows[part] for part in parts])


def _elapsed(kernels: _Kernels) -> float:
    """Seconds until the card is done with all, from when the host begins.

    Kernel k ends at the latest of: launch of an earlier one j, and all from j to k after it.
    """
    elapsed, begin = 0.0, 0
    for end in [*(np.flatnonzero(kernels.waits) + 1).tolist(), len(kernels.card)]:
        card, launched = kernels.card[begin:end], np.cumsum(kernels.host[begin:end])
        before = np.cumsum(card) - card
        elapsed += float(card.sum() + np.max(launched - before, initial=0.0))
        begin = end
    return elapsed
