"""PyTorch's own estimator beside this one: seconds and bytes, on the same steps, in one run.

    python -m tests.benchmarks.against_mem_tracker

`torch.distributed._tools.mem_tracker.MemTracker` follows the step on fake CPU tensors, for fake
CUDA ones would need a GPU in `backward`; sizes are the same, kernels' own allocations are not
among them on either. Both see two updates. What it refuses is told below the table. Prints
Markdown; measures no memory.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from tabulate import tabulate
from torch.distributed._tools.mem_tracker import MemTracker
from tqdm import tqdm

from bench.card.targets import target_named
from bench.simulate.cache import TraceCache
from bench.simulate.predictor import Predictor
from bench.simulate.trace.fake_cuda import fake_cuda
from bench.simulate.trace.tracer import _blank_batch
from distill.spec.candidate import Candidate
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.models import build

T = TypeVar("T")
MIB = 2**20
ROUNDS = 3
CASES = [
    ("teacher", "fp32", 8),
    ("teacher", "fp16", 16),
    ("assistant", "fp16", 32),
    ("student", "fp32", 64),
]


def candidates() -> list[Candidate]:
    return [
        replace(
            load_recipe("cifar10").candidate(stage, micro_batch=batch),
            accumulation=1,
            precision=precision,
            implementation="fused",
        )
        for stage, precision, batch in CASES
    ]


def tracked(candidate: Candidate) -> int:
    """Peak bytes of two updates as MemTracker sees them."""
    with torch.device("meta"):
        student = build(candidate.student, checkpointing=candidate.checkpointing)
        teacher = None if candidate.teacher is None else build(candidate.teacher)
    with fake_cuda("cpu", "flash", torch.autograd.backward, calls_hooks=True):
        step = assemble(candidate, student, teacher, torch.device("cpu"))
        tracker = MemTracker()
        tracker.track_external(step.student, step.optimizer)
        if step.teacher is not None:
            tracker.track_external(step.teacher)
        with tracker:
            for _ in range(2):
                step.train([_blank_batch(candidate)])
                tracker.reset_mod_stats()  # it refuses a second forward; the peak stays
        (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    return int(snapshot["Total"])


def predicted(candidate: Candidate) -> tuple[int, int]:
    """Peak allocated and reserved bytes, traced anew."""
    target = target_named("rtx4050")
    prediction = Predictor(target, "expandable", TraceCache(None)).predict(candidate)
    return prediction.allocated, prediction.reserved


def answered(candidate: Candidate) -> int | str:
    """What MemTracker says, or why it says nothing."""
    try:
        return tracked(candidate)
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]


def timed(work: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def row(candidate: Candidate) -> dict[str, object]:
    """One line of the table: peaks, and the median seconds of several rounds of each."""
    theirs = [timed(lambda: answered(candidate)) for _ in range(ROUNDS)]
    ours = [timed(lambda: predicted(candidate)) for _ in range(ROUNDS)]
    peak, (allocated, reserved) = theirs[0][1], ours[0][1]
    if isinstance(peak, str):
        print(f"{candidate.stage} {candidate.precision}: MemTracker: {peak}", file=sys.stderr)
    return {
        "stage": candidate.stage,
        "precision": candidate.precision,
        "batch": candidate.micro_batch,
        "MemTracker MiB": None if isinstance(peak, str) else peak / MIB,
        "allocated MiB": allocated / MIB,
        "reserved MiB": reserved / MIB,
        "MemTracker s": None if isinstance(peak, str) else statistics.median(t for t, _ in theirs),
        "bench s": statistics.median(t for t, _ in ours),
    }


def main() -> None:
    rows = [row(candidate) for candidate in tqdm(candidates(), unit="case")]
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=",.1f", missingval="refused"))


if __name__ == "__main__":
    main()
