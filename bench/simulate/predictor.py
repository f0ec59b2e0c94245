"""Predictions for one target: a program that was traced once serves every batch size.

Traces where it must and replays where it can. Chooses nothing.
"""

import time
from dataclasses import replace
from functools import partial

import torch

from bench.simulate.cache import TraceCache, default_folder
from bench.simulate.kernels import KernelContext, KernelTable
from bench.simulate.largest_batch import EDGE, EDGE_EXPANDABLE, largest_below_first_misfit
from bench.simulate.peaks import peaks
from bench.simulate.prediction import Prediction
from bench.simulate.program.arrange import Order, arrange, batches, training_run
from bench.simulate.program.buckets import with_buckets
from bench.simulate.program.fit import NotLinear, fit
from bench.simulate.program.program import Ints, Program, TooLarge
from bench.simulate.program.roofline import images_per_second
from bench.simulate.program.step_time import predicted_timing
from bench.simulate.replay import Replay, largest_storages, replay
from bench.simulate.trace.untraceable import trace_or_refuse
from distill.base.errors import UserError
from distill.spec.candidate import Allocator, Candidate
from distill.spec.pins import Pins, pins_for
from distill.spec.profile import Target

FIT_BATCHES = (17, 114)
"""Two batch sizes give each size as a + b · batch. They are 97 apart, and the larger is 113 from a
batch of 1, both primes: a size that is no straight line gives itself away (`fit`). Not larger, as
batch norm leaves cuDNN beyond 2³¹ numbers (cudnn_batch_norm in Normalization.cpp, torch 2.11)."""

FAR = 101
"""The distance, a prime again, to a second traced batch where those two do not serve."""

LARGEST_EVALUATION_BATCH = 1024

KEPT_ORDERS = 8
"""Arrangements of parts that are kept for the next question."""


class Predictor:
    """Predictions for one target and allocator. Programs are kept for the next question."""

    def __init__(
        self,
        target: Target,
        allocator: Allocator,
        cache: TraceCache | None = None,
        *,
        replicas: int = 1,
    ) -> None:
        """One of `replicas` processes that train together is predicted."""
        self.target, self.allocator, self.replicas = target, allocator, replicas
        self.cache = TraceCache(default_folder()) if cache is None else cache
        self.programs: dict[Candidate, Program] = {}
        self._not_linear: set[Candidate] = set()
        self.trace_seconds = 0.0
        self._known: dict[Candidate, Prediction] = {}
        self._arranged: dict[tuple[int, Order], Program] = {}
        self._replay = partial(replay, kind=allocator, device_bytes=target.total_bytes)

    def predict(self, candidate: Candidate) -> Prediction:
        """Two updates, an epoch's last one, an evaluation, and before them what caches logits.

        Raises `UserError` for a model that can't be built, or whose forward asks its data.
        """
        if candidate not in self._known:
            found = self._replayed(candidate, self.program(candidate))
            if candidate.teacher_logits == "cached":
                found = replace(found, caching=self.predict(candidate.caching()))
            self._known[candidate] = found
        return self._known[candidate]

    def fit_family(self, candidate: Candidate) -> None:
        """Trace the family at two batches: every other from 2 up then follows without a trace.

        Where sizes turn out to be no straight line in the batch, each batch is traced when asked.
        """
        if candidate.teacher_logits == "cached":
            self.fit_family(candidate.caching())
        family = _family(candidate)
        if family in self.programs or family in self._not_linear:
            return
        one, other = (self._trace(candidate, batch) for batch in FIT_BATCHES)
        try:
            self.programs[family] = fit(one, FIT_BATCHES[0], other, FIT_BATCHES[1])
        except NotLinear:
            self._not_linear.add(family)

    def largest_batch(
        self, candidate: Candidate, limit_bytes: int, *, effective_batch: int | None = None
    ) -> int:
        """The largest micro-batch below the first that needs more than `limit_bytes`; 0 if none.

        With `effective_batch` an update always takes that many images. Where a model takes no
        image alone (batch norm), two have to fit.
        """
        self.fit_family(candidate)

        def needed(batch: int) -> int:
            there = replace(candidate, micro_batch=batch)
            if effective_batch is not None:
                there = candidate.with_batch(batch, effective_batch)
            try:
                least = self._live_peak(there)  # a lower bound, known without a replay
                return least if least > limit_bytes else self.predict(there).safe_bytes
            except UserError:
                if batch > 1:
                    raise
                return needed(2)

        edge = EDGE_EXPANDABLE if self.allocator == "expandable" else EDGE
        return largest_below_first_misfit(needed, limit_bytes, edge=edge)

    def evaluation_batch(self, candidate: Candidate) -> int:
        """The largest power of two at which evaluating does not raise the run's peak.

        No less than the candidate's micro-batch, at which the run is known.
        """
        batch = candidate.micro_batch
        if batch == 1 or _family(candidate) not in self.programs:
            return batch
        peak = self.predict(candidate).safe_bytes
        size = LARGEST_EVALUATION_BATCH
        while size > batch:
            wanted = replace(candidate, evaluation_batch=size)
            if self._live_peak(wanted) <= peak and self.predict(wanted).safe_bytes <= peak:
                return size
            size //= 2
        return batch

    def _live_peak(self, candidate: Candidate) -> int:
        """Requested bytes at their peak, the least that the allocator can reserve."""
        whole = self._whole(candidate, self.program(candidate))
        sizes = self._sizes(candidate, whole)
        return int(whole.live_bytes(sizes).max())

    def program(self, candidate: Candidate) -> Program:
        """Every part of the program at this batch size, and at all others if that can be."""
        if candidate.micro_batch > 1:
            if len(set(batches(candidate).values())) > 1:
                self.fit_family(candidate)
            if _family(candidate) in self.programs:
                return self.programs[_family(candidate)]
        key = _traced(candidate, candidate.micro_batch)
        if key not in self.programs:
            self.programs[key] = self._traced_alone(candidate)
        return self.programs[key]

    def run(self, candidate: Candidate, *, timeline: bool = False) -> tuple[Program, Replay]:
        """The whole run, arranged and replayed with segments at increasing addresses."""
        whole = self._whole(candidate, self.program(candidate))
        sizes = self._sizes(candidate, whole)
        return whole, self._replay(whole, sizes, timeline=timeline)

    def _sizes(self, candidate: Candidate, whole: Program) -> Ints:
        """Requested bytes of each birth. Raises `UserError` for more than can be counted."""
        try:
            return whole.sizes(batches(candidate), self._kernels(candidate).size)
        except TooLarge as error:
            raise UserError(
                f"{candidate.micro_batch} images of {candidate.student.image_size} px need more "
                f"bytes in {candidate.student.title} than 64 bits can count. Take fewer or "
                "smaller ones."
            ) from error

    def _whole(self, candidate: Candidate, program: Program) -> Program:
        """The parts of one of `programs` as the candidate's run takes them, whatever its batch."""
        key = id(program), training_run(candidate)
        if key not in self._arranged:
            if len(self._arranged) == KEPT_ORDERS:
                del self._arranged[next(iter(self._arranged))]
            whole, learns = arrange(program, key[1]), candidate.teacher_logits != "caching"
            self._arranged[key] = with_buckets(whole) if self.replicas > 1 and learns else whole
        return self._arranged[key]

    def _traced_alone(self, candidate: Candidate) -> Program:
        """This batch size, and one more for what of the run has another."""
        batch = candidate.micro_batch
        traced = self._trace(candidate, batch)
        if set(batches(candidate).values()) == {batch}:
            return traced
        second = FIT_BATCHES[1] if batch == 1 else batch + FAR
        other = self._trace(candidate, second)
        try:
            return fit(traced, batch, other, second)
        except NotLinear as error:
            raise UserError(
                f"{candidate.student.name} at batch {batch}: {error}, so a run in which an epoch's "
                "last batch or the evaluation has another size can't be put together. Choose a "
                f"batch that divides the {candidate.images_per_epoch} images of an epoch."
            ) from error

    def _trace(self, candidate: Candidate, batch: int) -> Program:
        began = time.perf_counter()
        traced = _traced(candidate, batch)
        pins = self._pins(candidate)
        path = self.cache.path(traced, self.target, pins)
        program = self.cache.load(path)
        if program is None:
            program = trace_or_refuse(traced, pins, self._kernels(traced))
            self.cache.save(path, program)
        self.trace_seconds += time.perf_counter() - began
        return program

    def _replayed(self, candidate: Candidate, program: Program) -> Prediction:
        whole = self._whole(candidate, program)
        sizes = self._sizes(candidate, whole)
        kernels = self._kernels(candidate)
        found = peaks(whole, sizes, batches(candidate), kernels, self._replay, self.allocator)
        first = found.replay
        span = whole.spans[whole.span_of[first.peak.birth]]
        return Prediction(
            candidate=candidate,
            target=self.target,
            pins=self._pins(candidate),
            requested=first.requested,
            allocated=first.allocated,
            reserved=first.reserved,
            reserved_max=found.reserved_max,
            workspace_bound=found.workspace_bound,
            cap_needed=found.cap_needed,
            breakdown={**dict(first.peak.owned.items()), "allocator_slack": first.slack},
            peak_phase=span.phase,
            peak_part=span.part,
            largest=largest_storages(whole, first.peak),
            images_per_second=images_per_second(
                program, self.target, candidate.micro_batch, candidate.accumulation
            ),
            timing=predicted_timing(program, self.target, candidate),
            trace_seconds=self.trace_seconds,
            torch=torch.__version__,
            replicas=self.replicas,
        )

    def _pins(self, candidate: Candidate) -> Pins:
        return pins_for(
            candidate.precision,
            self.target.compute_capability,
            deterministic=candidate.deterministic,
            allocator=self.allocator,
        )

    def _kernels(self, candidate: Candidate) -> KernelTable:
        return KernelTable(
            KernelContext(self.target, self._pins(candidate), candidate.deterministic)
        )


def _family(candidate: Candidate) -> Candidate:
    """All candidates that differ in nothing but batches."""
    return replace(_traced(candidate, 0), accumulation=0)


def _traced(candidate: Candidate, batch: int) -> Candidate:
    """The candidate as a trace knows it: without accumulation and the other batches."""
    return replace(
        candidate,
        micro_batch=batch,
        accumulation=1,
        evaluation_batch=None,
        images_per_epoch=None,
    )
