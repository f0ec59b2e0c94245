"""The buckets of DistributedDataParallel, put into the program of one process. Pure.

From torch/nn/parallel/distributed.py and torch/csrc/distributed/c10d/reducer.cpp, torch 2.11, with
gradients that are views of buckets, no unused parameters and no static graph. One bucket for all
gradients is made when the module is wrapped; at the first forward after a backward it is given up
for buckets in the order in which gradients were ready (`rebuild_buckets`). They stay.

A bound, most often exact: a gradient that was copied to its bucket is let go when the backward of
its module is through, where autograd's engine does it after each node. What NCCL takes from the
driver is not PyTorch's and not counted.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.simulate.program.program import NEVER, Ints, Program, int64_array
from distill.base.units import MIB
from distill.spec.file_values import OWNERS

FIRST_BUCKET_BYTES = 1 * MIB
BUCKET_BYTES = 25 * MIB

Words = NDArray[np.str_]

GRADIENTS = OWNERS.index("gradients")


def with_buckets(program: Program) -> Program:
    """An arranged program of training (`arrange`) with the buckets of one of several processes."""
    parts = np.array([program.spans[span].part for span in program.span_of])
    phases = np.array([program.spans[span].phase for span in program.span_of])
    first = int(np.argmax(parts == "first"))
    ready = np.flatnonzero((program.owner_of == GRADIENTS) & (parts == "first"))
    gradients = program.base[ready].tolist()
    program = replace(program, death=_copied(program, parts, phases))
    rebuilt = _last_forward_of_second_update(parts, phases)
    whole = _inserted(program, rebuilt, bucket_sizes(gradients), NEVER)
    return _inserted(whole, first, [sum(gradients)], rebuilt + 1)


def bucket_sizes(gradients: Sequence[int]) -> list[int]:
    """Bytes of the buckets for gradients of these bytes, in the order in which they were ready.

    A bucket is closed by the gradient that brings it to its limit, which for the first is lower
    (`compute_bucket_assignment_by_size`).
    """
    found, size, limit = [], 0, FIRST_BUCKET_BYTES
    for gradient in gradients:
        size += gradient
        if size >= limit:
            found.append(size)
            size, limit = 0, BUCKET_BYTES
    return [*found, size] if size else found


def _copied(program: Program, parts: Words, phases: Words) -> Ints:
    """Deaths, those of gradients with the last that their module makes before they are sent.

    Sent is the last micro-batch of each update, to whose gradients those before it were added.
    """
    death = program.death.copy()
    gradients = np.flatnonzero(program.owner_of == GRADIENTS)
    starts = np.flatnonzero(np.isin(parts, ("first", "again")) & (np.roll(parts, 1) != parts))
    for start in starts:
        end = start + int(np.argmax(np.isin(parts[start:], ("first_update", "update"))))
        begins = _begins(phases[:end], "backward")[-1]
        last = {module: begins + at for at, module in enumerate(program.module[begins:end])}
        for birth in gradients[(gradients >= start) & (gradients < end)]:
            death[birth] = 1 + last.get(program.module[birth], end - 1)
    return death


def _begins(phases: Words, phase: str) -> Ints:
    """The births with which a phase begins."""
    there = phases == phase
    return np.flatnonzero(there & ~np.roll(there, 1))


def _last_forward_of_second_update(parts: Words, phases: Words) -> int:
    """The first birth of the student's forward whose backward is the second to be sent."""
    again = int(np.argmax(parts == "again"))
    update = again + int(np.argmax(parts[again:] == "update"))
    return int(_begins(phases[:update], "forward")[-1])


def _inserted(program: Program, place: int, sizes: Sequence[int], death: int) -> Program:
    """The program with more births before the one at `place`; they die before birth `death`."""
    more = len(sizes)

    def moved(births: Ints) -> Ints:
        return births + more * (births >= place)

    owner, words = np.full(more, GRADIENTS), np.full(more, "DistributedDataParallel", dtype=object)
    nowhere = np.full(more, "", dtype=object)
    dying = program.death + more * (program.death > place)
    dies = NEVER if death == NEVER else death + more - 1
    none = np.zeros(more, dtype=np.int64)
    return replace(
        program,
        base=np.insert(program.base, place, int64_array(sizes)),
        slope=np.insert(program.slope, place, none),
        death=np.insert(dying, place, none + dies),
        span_of=np.insert(program.span_of, place, none + program.span_of[place - 1]),
        owner_of=np.insert(program.owner_of, place, owner),
        op=np.insert(program.op, place, words),
        module=np.insert(program.module, place, nowhere),
        formulas={
            int(moved(int64_array([at]))[0]): asked for at, asked in program.formulas.items()
        },
        repeats={},  # an update's last micro-batch lets go of what those before it made
    )
