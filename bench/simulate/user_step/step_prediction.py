"""A step's program through the allocator: the peaks of its building and of all its updates."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from bench.simulate.kernels import KernelContext, KernelTable
from bench.simulate.peaks import peaks
from bench.simulate.prediction import Allocation
from bench.simulate.program.program import Slot
from bench.simulate.replay import largest_storages, replay
from bench.simulate.user_step.known_ops import RuledKernels
from bench.simulate.user_step.step_refusals import in_a_sentence
from bench.simulate.user_step.step_trace import MakeStep, TracedStep, trace_updates
from distill.spec.candidate import Allocator
from distill.spec.file_values import OWNERS
from distill.spec.pins import Pins
from distill.spec.profile import Target

LARGE_WORKSPACE_FROM = 9
"""The major number from which PyTorch gives cuBLAS 32 MiB (CublasHandlePool.cpp,
parseChosenWorkspaceSize, 2.11, for 9; taken for later cards too)."""

BATCHES: Mapping[Slot, int] = {"train": 0, "last": 0, "evaluate": 0}
"""A step's program has one batch size, its own: no size depends on another."""


@dataclass(frozen=True, kw_only=True)
class StepPrediction:
    """Bytes that building a step and running it for ever take on a card; nothing was measured.

    `requested`, `allocated` and `reserved` are peaks as `torch.cuda.memory_stats` counts them.
    `reserved_max` is the largest reserved peak over the orders in which the driver may give
    segments and over the workspaces that cuDNN may take. `breakdown` says who owns the bytes at
    the peak of what is allocated, with the allocator's slack: it sums to `reserved`.
    `peak_op` in `peak_module` asked for the last of them, in update `peak_update` (0: while the
    step was built), in `peak_phase` (setup, forward, backward or update).
    Updates from `updates` on are alike.
    """

    target: Target
    allocator: Allocator
    requested: int
    allocated: int
    reserved: int
    reserved_max: int
    cap_needed: int
    breakdown: dict[str, int]
    peak_op: str
    peak_module: str
    peak_owner: str
    peak_phase: str
    peak_update: int
    largest: tuple[Allocation, ...]
    updates: int
    torch: str

    @property
    def safe_bytes(self) -> int:
        """Bytes to reserve with which the step goes through, whatever the order of segments."""
        return max(self.reserved_max, self.cap_needed)


def predict_on(make_step: MakeStep, target: Target, allocator: Allocator) -> StepPrediction:
    """Trace a step for a card and replay it. Raises `UserError` for what can't be predicted."""
    table = KernelTable(KernelContext(target, _unpinned(target, allocator), False))
    with in_a_sentence():
        traced = trace_updates(make_step, RuledKernels(table), target.compute_capability)
    return _replayed(traced, table, allocator)


def _unpinned(target: Target, allocator: Allocator) -> Pins:
    """What PyTorch does on a card where nothing is pinned. The attention kernel is each call's."""
    large = target.compute_capability[0] >= LARGE_WORKSPACE_FROM
    return Pins(
        attention="flash",
        cublas_workspace_config=":4096:8" if large else ":4096:2:16:8",
        allocator=allocator,
    )


def _replayed(traced: TracedStep, table: KernelTable, allocator: Allocator) -> StepPrediction:
    program, target = traced.program, table.context.target
    replays = partial(replay, kind=allocator, device_bytes=target.total_bytes)
    sizes = program.sizes(BATCHES, table.size)
    found = peaks(program, sizes, BATCHES, table, replays, allocator)
    first = found.replay
    birth = first.peak.birth
    span = program.span_of[birth]
    return StepPrediction(
        target=target,
        allocator=allocator,
        requested=first.requested,
        allocated=first.allocated,
        reserved=first.reserved,
        reserved_max=found.reserved_max,
        cap_needed=found.cap_needed,
        breakdown={**dict(first.peak.owned.items()), "allocator_slack": first.slack},
        peak_op=str(program.op[birth]),
        peak_module=str(program.module[birth]),
        peak_owner=OWNERS[program.owner_of[birth]],
        peak_phase=program.spans[span].phase,
        peak_update=sum(begin <= int(span) for begin in traced.begins),
        largest=largest_storages(program, first.peak),
        updates=len(traced.begins),
        torch=traced.torch,
    )
