"""The traced parts in the order of a training run. Pure.

Storages that one part leaves for another to free (gradients, which the update drops) are freed at
that part's next occurrence; they live on where there is none.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.simulate.program.program import NEVER, Costs, Formula, Ints, PartName, Program, Slot
from distill.spec.candidate import Candidate

Order = tuple[tuple[PartName, Slot], ...]

REPEATED = 3
"""Further micro-batches that are replayed at most: each leaves the allocator as the one
before it did (`tests/bench/simulate/program/test_arrange.py` shows it for many more)."""


def training_run(candidate: Candidate) -> Order:
    """Two updates from a cold start, an epoch's last update, a validation.

    The last update has what the epoch leaves: full micro-batches, then a smaller one. A run that
    caches logits asks the teacher twice: the first time leaves workspaces behind.
    """
    if candidate.teacher_logits == "caching":
        return (("setup", "train"), ("teach_first", "train"), ("teach", "train"))
    more: list[tuple[PartName, Slot]] = [("more", "train")] * min(
        candidate.accumulation - 1, REPEATED
    )
    order: list[tuple[PartName, Slot]] = [("setup", "train")]
    order += [("first", "train"), *more, ("first_update", "train")]
    order += [("again", "train"), *more, ("update", "train")]
    slots: list[Slot] = ["train"] * min(_last_update(candidate)[0], REPEATED + 1)
    slots += ["last"] if _last_update(candidate)[1] else []
    order += [("again" if number == 0 else "more", slot) for number, slot in enumerate(slots)]
    order += [("update", "train")] if slots else []
    return (*order, ("evaluate", "evaluate"))


def batches(candidate: Candidate) -> dict[Slot, int]:
    """The batch size of each slot of a run."""
    return {
        "train": candidate.micro_batch,
        "last": _last_update(candidate)[1] or candidate.micro_batch,
        "evaluate": candidate.images_evaluated_at_once,
    }


def _last_update(candidate: Candidate) -> tuple[int, int]:
    """An epoch's last update: how many full micro-batches, and the images of a smaller one.

    (0, 0) when updates come out even, or when the size of an epoch is not known.
    """
    if candidate.images_per_epoch is None:
        return 0, 0
    return divmod(candidate.images_per_epoch % candidate.effective_batch, candidate.micro_batch)


@dataclass(frozen=True)
class _PartSlices:
    """The place of a part in the traced program."""

    births: slice
    spans: slice
    costs: slice


def arrange(program: Program, order: Order) -> Program:
    """The parts of `program` in the given order, repeated or left out."""
    blocks = {part: _block(program, part) for part, _ in order}
    copies = [blocks[part] for part, _ in order]
    rows = np.concatenate([np.arange(b.births.start, b.births.stop) for b in copies])
    starts = np.cumsum([0, *(b.births.stop - b.births.start for b in copies)])
    death = _deaths(program, copies, starts)
    span_starts = np.cumsum([0, *(b.spans.stop - b.spans.start for b in copies)])
    shifts = span_starts[:-1] - [b.spans.start for b in copies]
    return replace(
        program,
        spans=tuple(
            replace(span, slot=slot)
            for block, (_, slot) in zip(copies, order, strict=True)
            for span in program.spans[block.spans]
        ),
        base=program.base[rows],
        slope=program.slope[rows],
        death=death,
        span_of=np.concatenate(
            [program.span_of[b.births] + s for b, s in zip(copies, shifts, strict=True)]
        ),
        owner_of=program.owner_of[rows],
        op=program.op[rows],
        module=program.module[rows],
        formulas=_formulas(program, copies, starts.tolist()),
        costs=_costs(program.costs, copies, shifts),
        repeats=_repeats(order, starts.tolist(), death),
    )


def _repeats(order: Order, starts: Sequence[int], death: Ints) -> dict[int, tuple[int, int]]:
    """Copies of the part before them that leave nothing and free nothing older, as it does."""
    return {
        starts[number]: (starts[number - 1], starts[number + 1])
        for number in range(1, len(order))
        if order[number] == order[number - 1]
        and _keeps_to_itself(starts[number - 1], starts[number], death)
        and _keeps_to_itself(starts[number], starts[number + 1], death)
    }


def _keeps_to_itself(begin: int, end: int, death: Ints) -> bool:
    """True if exactly the births of a stretch die in it."""
    dies_inside = (death > begin) & (death <= end)
    return bool(dies_inside[begin:end].all() and not dies_inside[:begin].any())


def _block(program: Program, part: PartName) -> _PartSlices:
    spans = [i for i, span in enumerate(program.spans) if span.part == part]
    first, end = spans[0], spans[-1] + 1
    return _PartSlices(
        births=slice(*(int(i) for i in np.searchsorted(program.span_of, [first, end]))),
        spans=slice(first, end),
        costs=slice(*(int(i) for i in np.searchsorted(program.costs.span_of, [first, end]))),
    )


def _deaths(program: Program, copies: Sequence[_PartSlices], starts: Ints) -> Ints:
    """Deaths moved to where their part is now; a part's end counts as inside it."""
    found = []
    for number, block in enumerate(copies):
        death = program.death[block.births]
        moved = np.full(len(death), NEVER)
        for later in range(len(copies) - 1, number - 1, -1):
            there = copies[later].births
            inside = (death > there.start) & (death <= there.stop)
            moved[inside] = death[inside] - there.start + starts[later]
        found.append(moved)
    return np.concatenate(found)


def _formulas(
    program: Program, copies: Sequence[_PartSlices], starts: Sequence[int]
) -> dict[int, Formula]:
    """The formulas by birth as it is now numbered."""
    births, formulas = list(program.formulas), list(program.formulas.values())
    found: dict[int, Formula] = {}
    for block, start in zip(copies, starts, strict=False):
        begin, end = (bisect_left(births, at) for at in (block.births.start, block.births.stop))
        shift = start - block.births.start
        moved = (birth + shift for birth in births[begin:end])
        found.update(zip(moved, formulas[begin:end], strict=True))
    return found


def _costs(costs: Costs, copies: Sequence[_PartSlices], shifts: Ints) -> Costs:
    rows = np.concatenate([np.arange(b.costs.start, b.costs.stop) for b in copies])
    spans = [costs.span_of[b.costs] + s for b, s in zip(copies, shifts, strict=True)]
    return Costs(
        span_of=np.concatenate(spans),
        half=costs.half[rows],
        by_engine=costs.by_engine[rows],
        waits=costs.waits[rows],
        launches=costs.launches[rows],
        flops=costs.flops[rows],
        flops_slope=costs.flops_slope[rows],
        traffic=costs.traffic[rows],
        traffic_slope=costs.traffic_slope[rows],
    )
