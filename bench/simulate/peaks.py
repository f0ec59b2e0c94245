"""All peaks that one run may have on a card: what is expected, and the largest that may be. Pure.

The driver gives native segments at addresses of its choice, and cuDNN may take more workspace than
it asks for. Each variant is replayed, and the largest taken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from bench.simulate.allocator.blocks import AddressOf, increasing_address
from bench.simulate.kernels import KernelTable
from bench.simulate.program.program import Ints, Program, Slot
from bench.simulate.replay import Replay
from bench.simulate.torch_rules import TorchRules, installed_rules
from distill.spec.candidate import Allocator

SHUFFLES = 16
"""Orders of native segments in the address space that are tried beside the increasing one and the
decreasing one, which is near to what two cards recorded."""


class Replays(Protocol):
    """A function that replays a program, with segments at other addresses if wanted."""

    def __call__(self, program: Program, sizes: Ints, *, address_of: AddressOf = ...) -> Replay: ...


def segment_orders(allocator: Allocator, rules: TorchRules | None = None) -> Iterator[AddressOf]:
    """Other places that the driver may give to native segments, where places decide anything."""
    places = (rules or installed_rules()).equal_blocks == "lowest address"
    if allocator == "native" and places:
        yield lambda number: -number << 40
        for seed in range(1, SHUFFLES + 1):
            yield partial(_shuffled_address, seed)


@dataclass(frozen=True, kw_only=True)
class RunPeaks:
    """A replay with segments at increasing addresses, and the largest of all variants in bytes.

    `workspace_bound` is what of `reserved_max` is for larger workspaces of cuDNN. `cap_needed` is
    the smallest cap under which every order of segments goes through.
    """

    replay: Replay
    reserved_max: int
    workspace_bound: int
    cap_needed: int


def peaks(
    program: Program,
    sizes: Ints,
    batch: Mapping[Slot, int],
    kernels: KernelTable,
    replays: Replays,
    allocator: Allocator,
) -> RunPeaks:
    """The program replayed, with every order of segments and every bound of workspaces."""
    first = replays(program, sizes)
    others = [replays(program, sizes, address_of=order) for order in segment_orders(allocator)]
    highest = max(run.reserved for run in (first, *others))
    bounds = _bounded_peaks(program, sizes, batch, kernels, replays, allocator)
    bounded = max(bounds, default=highest)
    return RunPeaks(
        replay=first,
        reserved_max=max(highest, bounded),
        workspace_bound=max(0, bounded - highest),
        cap_needed=max(run.cap_needed for run in (first, *others)),
    )


def _bounded_peaks(
    program: Program,
    sizes: Ints,
    batch: Mapping[Slot, int],
    kernels: KernelTable,
    replays: Replays,
    allocator: Allocator,
) -> Iterator[int]:
    """Reserved peaks with cuDNN's workspaces as large as they may be; none if all are certain.

    Large workspaces can reuse each other's segment; workspaces that grow a little each time can
    not. So sizes between the predicted and the largest are tried too, each with another order of
    segments where that decides anything.
    """
    most = sizes.copy()
    for births, row, dims in program.questions(batch):
        bound = kernels.bound(row, dims)
        if bound is not None:
            most[births] = np.maximum(most[births], bound)
    if np.array_equal(most, sizes):
        return
    yield replays(program, most).reserved
    others = list(segment_orders(allocator))
    if allocator == "native" and not others:
        others = [increasing_address] * (SHUFFLES + 1)
    for number, order in enumerate(others, start=1):
        between = sizes + (most - sizes) * number // len(others)
        yield replays(program, between, address_of=order).reserved


def _shuffled_address(seed: int, number: int) -> int:
    """A made-up address for a segment: distinct for distinct numbers, in no order."""
    mixed = (number * 0x9E3779B97F4A7C15 ^ seed * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = (mixed ^ mixed >> 31) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed >> 40 << 24 | number) << 64
