"""Candidate and target in, prediction out; what was traced once serves every batch size.

Traces where it must and replays where it can. Chooses nothing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from bench.predict.arrange import arrange, training_run
from bench.predict.kernels import Card, KernelTable
from bench.predict.replay import replay
from bench.predict.trace import NotLinear, Program, Slot, check, fit
from bench.predict.tracer import trace_step
from bench.roofline import images_per_second
from distill.candidate import Allocator, Candidate
from distill.pins import Pins, pins_for
from distill.profile import Target

FIT_BATCHES = (16, 24)
PROOF_BATCH = 37
"""Two batch sizes give each size as a + b · batch, a third proves it."""

SHUFFLES = 16
"""Orders of native segments in the address space that are tried beside the increasing one."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a configuration needs on a target, in bytes; nothing here was measured.

    `reserved_max` is the largest peak over the orders that the driver may give segments in
    (equal to `reserved` with expandable segments); `cap_needed` the smallest enforced cap that
    lets the run go on. `breakdown` sums to `reserved`.
    """

    candidate: Candidate
    target: Target
    pins: Pins
    requested: int
    allocated: int
    reserved: int
    reserved_max: int
    cap_needed: int
    breakdown: dict[str, int]
    peak_phase: str
    peak_op: str
    peak_module: str
    images_per_second: float
    trace_seconds: float
    torch: str = torch.__version__

    @property
    def safe_bytes(self) -> int:
        """What must be there for the run to go through, whatever the order of segments."""
        return max(self.reserved_max, self.cap_needed)


class Predictor:
    """Predictions for one target and allocator. Programs are kept for the next question."""

    def __init__(self, target: Target, allocator: Allocator) -> None:
        self.target = target
        self.allocator = allocator
        self.programs: dict[Candidate, Program] = {}
        self.trace_seconds = 0.0

    def predict(self, candidate: Candidate) -> Prediction:
        """Trace this batch size alone, if it is not covered yet, and replay it."""
        return self._replayed(candidate, self._program(candidate))

    def cover(self, candidate: Candidate) -> None:
        """Make every batch size from 2 up a matter of milliseconds, where that is possible.

        Where sizes turn out to be no straight line in the batch, each will be traced.
        """
        family = _family(candidate)
        if family in self.programs:
            return
        one, other, proof = (
            self._trace(replace(candidate, micro_batch=batch))
            for batch in (*FIT_BATCHES, PROOF_BATCH)
        )
        try:
            fitted = fit(one, FIT_BATCHES[0], other, FIT_BATCHES[1])
            check(fitted, proof, PROOF_BATCH)
        except NotLinear:
            return
        self.programs[family] = fitted

    def largest_batch(self, candidate: Candidate, effective_batch: int, limit_bytes: int) -> int:
        """The largest micro-batch whose need is at most `limit_bytes`; 0 when not even 1 is.

        Bisects: memory grows with the batch.
        """
        self.cover(candidate)

        def fits(batch: int) -> bool:
            there = candidate.with_batch(batch, effective_batch)
            return self.predict(there).safe_bytes <= limit_bytes

        low, high = 0, 1
        while fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _program(self, candidate: Candidate) -> Program:
        """Every part of the program at this batch size."""
        if candidate.micro_batch > 1 and _family(candidate) in self.programs:
            return self.programs[_family(candidate)]
        key = replace(candidate, accumulation=1)
        if key not in self.programs:
            self.programs[key] = self._trace(candidate)
        return self.programs[key]

    def _trace(self, candidate: Candidate) -> Program:
        began = time.perf_counter()
        pins = self._pins(candidate)
        program = trace_step(
            candidate, attention=pins.attention, kernels=self._kernels(candidate, pins)
        )
        self.trace_seconds += time.perf_counter() - began
        return program

    def _replayed(self, candidate: Candidate, program: Program) -> Prediction:
        batch = candidate.micro_batch
        slots: dict[Slot, int] = {"train": batch, "last": batch, "evaluate": batch}
        whole = arrange(program, training_run(candidate.accumulation, last=False, evaluate=True))
        pins = self._pins(candidate)
        sizes = whole.sizes(slots, self._kernels(candidate, pins).size)
        runs = [replay(whole, sizes, self.allocator, address_of=order) for order in self._orders()]
        first = runs[0]
        span = whole.spans[whole.span_of[first.peak_birth]]
        return Prediction(
            candidate=candidate,
            target=self.target,
            pins=pins,
            requested=first.requested,
            allocated=first.allocated,
            reserved=first.reserved,
            reserved_max=max(run.reserved for run in runs),
            cap_needed=max(run.cap_needed for run in runs),
            breakdown={**dict(first.owned.items()), "allocator_slack": first.slack},
            peak_phase=span.phase,
            peak_op=whole.op[first.peak_birth],
            peak_module=whole.module[first.peak_birth],
            images_per_second=images_per_second(
                program, self.target, batch, candidate.accumulation
            ),
            trace_seconds=self.trace_seconds,
        )

    def _orders(self) -> Iterator[Callable[[int], int]]:
        """Where the n-th segment lies: in order, and with native segments in any order."""
        yield lambda number: number << 40
        if self.allocator == "native":
            for seed in range(1, SHUFFLES + 1):
                yield partial(_shuffled_address, seed)

    def _pins(self, candidate: Candidate) -> Pins:
        return pins_for(
            candidate.precision,
            self.target.compute_capability,
            deterministic=candidate.deterministic,
            allocator=self.allocator,
        )

    def _kernels(self, candidate: Candidate, pins: Pins) -> KernelTable:
        return KernelTable(Card(self.target, pins, candidate.deterministic))


def _family(candidate: Candidate) -> Candidate:
    """All candidates that differ in nothing but the batch."""
    return replace(candidate, micro_batch=0, accumulation=0)


def _shuffled_address(seed: int, number: int) -> int:
    """A made-up address for a segment: distinct for distinct numbers, in no order."""
    mixed = (number * 0x9E3779B97F4A7C15 ^ seed * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = (mixed ^ mixed >> 31) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed >> 40 << 24 | number) << 40
