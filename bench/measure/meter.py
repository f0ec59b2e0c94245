"""One child's readings of its device: before, at the peak, over time. Needs torch, not CUDA.

On a CPU only times are read. What CUDA or NVML does not tell is `None`, with the reason.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch

from bench.measure.host_share import Marked, Update, count_launches, read_card_seconds
from bench.measure.warm_up import WarmUp, is_settled
from bench.trials.trial import Measured, Round
from distill.data.batches import Batch
from distill.device.nvml import DeviceState, process_bytes, read_state
from distill.device.power import power_source
from distill.step.memory import Peaks, read_peaks, read_usage, reset_peaks, set_cap, synchronize
from distill.step.step import Step, no_mark


class Meter:
    """Made before the first allocation on the device: it sets the cap and sees the context made.

    Nothing here allocates through PyTorch, so that the peaks are the step's alone.
    """

    def __init__(self, device: torch.device, cap_bytes: int | None) -> None:
        self.device = device
        self.on_cuda = device.type == "cuda"
        self.began = time.perf_counter()
        self.missing: dict[str, str] = {}
        self.warm: list[float] = []
        self.seconds: list[float] = []
        self.rounds: list[Round] = []
        self._cold: Peaks | None = None
        self._uuid: str | None = None
        if self.on_cuda:
            self._make_context(cap_bytes)

    def _make_context(self, cap_bytes: int | None) -> None:
        self._uuid = str(torch.cuda.get_device_properties(self.device).uuid)
        before = self._state().used_bytes
        self.used_after = self.device_used()
        after = self._state().used_bytes
        self.used_before = before
        self.context_bytes: int | None = None
        if before is not None and after is not None:
            self.context_bytes = max(0, after - before)
        else:
            self.missing["context_bytes"] = "NVML did not tell what was in use before"
        if cap_bytes is not None:
            set_cap(cap_bytes, self.device)

    def marked(self, step: Step, batches: Sequence[Batch]) -> list[tuple[str, int]]:
        """One more update; what PyTorch had allocated as each phase of it began. Empty on a CPU."""
        found: list[tuple[str, int]] = []
        if not self.on_cuda:
            return found
        step.mark = lambda phase: found.append((phase, torch.cuda.memory_allocated(self.device)))
        step.train(batches)
        step.mark = no_mark
        return found

    def warm_up(self, update: Update, rule: WarmUp) -> None:
        """Take updates until the rule says that they may be timed."""
        while not rule.is_over(self.warm):
            self.warm.append(self._timed(update))

    def cold(self) -> None:
        """The warm-up is over: keep its peaks and start new ones."""
        synchronize(self.device)
        self._cold = read_peaks(self.device)
        reset_peaks(self.device)

    def round(self, update: Update, steps: int) -> None:
        """Time `steps` updates one by one, and look at the device as they begin."""
        self._look(len(self.seconds))
        self.seconds += [self._timed(update) for _ in range(steps)]

    def _timed(self, update: Update) -> float:
        """Seconds of one update, to the end of what the device has to do for it."""
        began = time.perf_counter()
        update()
        synchronize(self.device)
        return time.perf_counter() - began

    def with_host_share(
        self, reading: Measured, step: Marked, update: Update, *, micro_batches: int, count: bool
    ) -> Measured:
        """The reading and, on a card, the host's share of an update, read in further updates.

        A phase is held up for as long as a micro-batch takes, which the host needs at most to queue
        it. Launches are counted only where `count` says so.
        """
        if not self.on_cuda:
            return reading
        missing = dict(reading.missing or {})
        stall_seconds = median(self.seconds) / micro_batches
        card_seconds = read_card_seconds(step, update, self.device, stall_seconds)
        if card_seconds is None:
            missing["card_seconds"] = "the card's events tell no time"
        launches, why = count_launches(update, self.device) if count else (None, "not asked for")
        if why is not None:
            missing["launches"] = why
        return replace(
            reading, card_seconds=card_seconds, launches=launches, missing=missing or None
        )

    def reading(self) -> Measured:
        """All that was read."""
        self._look(len(self.seconds))
        reading = Measured(
            warm_up_seconds=tuple(self.warm),
            settled=is_settled(self.warm),
            step_seconds=tuple(self.seconds),
            rounds=tuple(self.rounds),
            missing=self.missing or None,
        )
        steady = read_peaks(self.device)
        if steady is None:
            return reading
        cold = self._cold or steady
        own, reason = process_bytes(os.getpid(), self._uuid)
        if reason is not None:
            self.missing["process_bytes"] = reason
        return replace(
            reading,
            requested_bytes=max(cold.requested_bytes, steady.requested_bytes),
            allocated_bytes=max(cold.allocated_bytes, steady.allocated_bytes),
            reserved_bytes=max(cold.reserved_bytes, steady.reserved_bytes),
            cold_reserved_bytes=cold.reserved_bytes,
            alloc_retries=steady.alloc_retries,
            device_used_before_bytes=self.used_before,
            device_used_after_bytes=self.used_after,
            device_used_bytes=self.device_used(),
            process_bytes=own,
            context_bytes=self.context_bytes,
            missing=self.missing or None,
        )

    def device_used(self) -> int:
        """Bytes in use on the whole device, by everybody. CUDA only; makes the context."""
        free, total = torch.cuda.mem_get_info(self.device)
        return total - free

    def _look(self, first_step: int) -> None:
        usage = read_usage(self.device)
        state = replace(self._state(), missing={}) if self.on_cuda else None
        self.rounds.append(
            Round(
                first_step=first_step,
                began_seconds=time.perf_counter() - self.began,
                outside_bytes=None if usage is None else usage.outside_bytes,
                state=state,
                power_source=power_source(),
            )
        )

    def _state(self) -> DeviceState:
        state = read_state(self._uuid)
        self.missing |= state.missing
        return state
