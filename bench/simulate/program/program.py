"""A traced program as values: births and frees in program order, at any batch size.

Pure. Sizes are bytes as requested, `base + slope · batch`. A program traced at one batch size
has slope 0; two of them make one that holds at every batch (module `fit`), or are found not to.

A death is kept as the number of the birth before which it happens. So frees between two births
are a set without an order: autocast clears its cache in the order of a hash map, which differs
from run to run, and free neighbours merge into the same block in any order.

A program is made of parts, each traced once; `arrange` puts them together as a training run
does, with as many micro-batches an update as it takes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distill.spec.file_values import OWNERS, Owner
from distill.step.step import Phase

TrainingPart = Literal["setup", "first", "more", "first_update", "again", "update", "evaluate"]
PartName = Literal[TrainingPart, "teach_first", "teach"]
"""The parts that are traced, each once: building; the first micro-batch of the first update; one
more, onto gradients that are there; the update that makes the optimizer's state; a micro-batch
and an update after that; an evaluation. Where logits are cached: building; the teacher's first
batch; another."""

Slot = Literal["train", "last", "evaluate"]
"""The batch size that a part runs at: of a full micro-batch, an epoch's last one, an evaluation."""

NEVER = -1
MOST = 2**62
"""Bytes or operations, in all of a run, that 64 bits surely hold. No card has a millionth of it."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """A stretch of one part that is one phase of the step."""

    phase: Phase
    part: PartName
    slot: Slot = "train"


@dataclass(frozen=True)
class Formula:
    """A row of the kernel table and the dimensions to ask it about, `dims + slopes · batch`."""

    row: str
    dims: tuple[int, ...]
    slopes: tuple[int, ...]

    def at(self, batch: int) -> tuple[int, ...]:
        """The dimensions at a batch size."""
        return tuple(d + s * batch for d, s in zip(self.dims, self.slopes, strict=True))


@dataclass(frozen=True)
class HiddenAllocation:
    """An allocation inside a kernel: after its outputs, ahead of them (`before`), or after one.

    `after_output` is that one's number; outputs that the call leaves out count.
    It lasts until the op ends; or only through the next `outlives` hidden allocations of the
    same call; or for ever, when a handle (`kept_by`) never lets go of it.
    """

    row: str
    dims: tuple[int, ...]
    size_bytes: int
    owner: Owner
    outlives: int | None = None
    kept_by: str | None = None
    before: bool = False
    after_output: int | None = None


@dataclass
class Birth:
    """One storage, as the ledger writes it. `owner` is found out as the program goes on."""

    size_bytes: int
    op: str
    module: str
    span: int
    owner: Owner | None
    formula: Formula | None = None


@dataclass(frozen=True)
class Cost:
    """Arithmetic, traffic and launches of one op. `half`: its operands have 16 bits.

    `by_engine`: autograd's engine asks for it and not Python. `waits`: the host reads its result,
    and so waits for the card.
    """

    span: int
    flops: int
    traffic_bytes: int
    half: bool
    launches: int = 1
    by_engine: bool = False
    waits: bool = False


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of many ops, one entry each: `base + slope · batch`, equal launches at each batch."""

    span_of: Ints
    half: NDArray[np.bool_]
    by_engine: NDArray[np.bool_]
    waits: NDArray[np.bool_]
    launches: Ints
    flops: Ints
    flops_slope: Ints
    traffic: Ints
    traffic_slope: Ints


@dataclass(frozen=True, kw_only=True)
class Program:
    """Births in program order: one entry each in `base` … `module`; `owner_of` indexes `OWNERS`.

    `formulas` holds, by birth, what is asked of the kernel table at each batch size instead of
    `base + slope · batch`, in order of birth; equal ones are one object. `repeats` tells of each
    stretch that is the one before it once more, by its first birth, where that one began and where
    it ends itself.
    """

    spans: tuple[Span, ...]
    base: Ints
    slope: Ints
    death: Ints
    span_of: Ints
    owner_of: Ints
    op: NDArray[np.object_]
    module: NDArray[np.object_]
    formulas: Mapping[int, Formula]
    costs: Costs
    repeats: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.base)

    @cached_property
    def frees(self) -> tuple[list[int], list[int]]:
        """All births in the order of their frees, and for each birth how many are freed before it.

        `order[bounds[birth] : bounds[birth + 1]]` are those freed just before `birth`, in their own
        order. One list for all: one a birth would take longer to make than to use.
        """
        order = np.argsort(self.death, kind="stable")
        bounds = np.searchsorted(self.death[order], np.arange(len(self) + 2))
        return order.tolist(), bounds.tolist()

    def sizes(self, batch: Mapping[Slot, int], ask: Callable[[str, tuple[int, ...]], int]) -> Ints:
        """Requested bytes of each birth when every slot has its batch size.

        `ask` gives the bytes of a kernel row for dimensions. Raises `TooLarge` beyond all bounds.
        """
        there = self.batches(batch)[self.span_of]
        asked = [(births, ask(row, dims)) for births, row, dims in self.questions(batch)]
        roughly = np.abs(self.base + self.slope.astype(float) * there).sum()
        if roughly + sum(float(size) * len(births) for births, size in asked) > MOST:
            raise TooLarge
        sizes = self.base + self.slope * there
        for births, size in asked:
            sizes[births] = size
        return sizes

    def questions(
        self, batch: Mapping[Slot, int]
    ) -> Iterator[tuple[list[int], str, tuple[int, ...]]]:
        """Births whose size the kernel table gives, with the row and the dimensions to ask for."""
        for formula, slot, births in self._asking:
            yield births, formula.row, formula.at(batch[slot])

    @cached_property
    def _asking(self) -> Sequence[tuple[Formula, Slot, list[int]]]:
        """The births that have the same question: blocks of a model ask alike."""
        slots = [span.slot for span in self.spans]
        span_of = self.span_of[list(self.formulas)].tolist()
        births: dict[tuple[int, Slot], tuple[Formula, Slot, list[int]]] = {}
        for (index, formula), span in zip(self.formulas.items(), span_of, strict=True):
            key = id(formula), slots[span]  # its own hash takes long (see `interned`)
            births.setdefault(key, (formula, slots[span], []))[2].append(index)
        return list(births.values())

    def live_bytes(self, sizes: Ints) -> Ints:
        """Requested bytes alive just after each birth."""
        freed = self.death != NEVER
        change = np.bincount(self.death[freed], sizes[freed], minlength=len(self) + 1)[: len(self)]
        return np.cumsum(sizes - change.astype(np.int64))

    def batches(self, batch: Mapping[Slot, int]) -> Ints:
        """The batch size at which each span runs."""
        return int64_array(batch[span.slot] for span in self.spans)

    def work(self, batch: int) -> tuple[Floats, Floats]:
        """FLOPs and bytes of traffic of each op, every slot at `batch`.

        As floats: integers of 64 bits would run over where batch and image are large.
        """
        slots: dict[Slot, int] = {"train": batch, "last": batch, "evaluate": batch}
        costs, there = self.costs, self.batches(slots)[self.costs.span_of].astype(float)
        return costs.flops + costs.flops_slope * there, costs.traffic + costs.traffic_slope * there


def make_program(
    spans: Sequence[Span], births: Sequence[Birth], deaths: Sequence[int], costs: Sequence[Cost]
) -> Program:
    """The entries of a ledger as a program. Births that nobody claimed are temporaries."""
    none = np.zeros(len(costs), dtype=np.int64)
    return Program(
        spans=tuple(spans),
        base=int64_array(birth.size_bytes for birth in births),
        slope=np.zeros(len(births), dtype=np.int64),
        death=int64_array(deaths),
        span_of=int64_array(birth.span for birth in births),
        owner_of=int64_array(OWNERS.index(birth.owner or "temporaries") for birth in births),
        op=np.array([birth.op for birth in births], dtype=object),
        module=np.array([birth.module for birth in births], dtype=object),
        formulas=interned({i: birth.formula for i, birth in enumerate(births) if birth.formula}),
        costs=Costs(
            span_of=int64_array(cost.span for cost in costs),
            half=np.array([cost.half for cost in costs], dtype=bool),
            by_engine=np.array([cost.by_engine for cost in costs], dtype=bool),
            waits=np.array([cost.waits for cost in costs], dtype=bool),
            launches=int64_array(cost.launches for cost in costs),
            flops=int64_array(min(cost.flops, MOST) for cost in costs),
            flops_slope=none,
            traffic=int64_array(min(cost.traffic_bytes, MOST) for cost in costs),
            traffic_slope=none,
        ),
    )


def interned(formulas: Mapping[int, Formula]) -> dict[int, Formula]:
    """The same formulas, equal ones as one object: identity is quicker to compare than a hash."""
    known: dict[Formula, Formula] = {}
    return {index: known.setdefault(formula, formula) for index, formula in formulas.items()}


class TooLarge(Exception):
    """More bytes than 64 bits can count."""


def int64_array(values: Iterable[int]) -> Ints:
    """Whole numbers as an array of 64 bits each."""
    return np.fromiter(values, dtype=np.int64)
