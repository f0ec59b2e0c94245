"""PyTorch's own estimator beside this one: seconds and bytes, on the same steps, in one run.

    python -m tests.benchmarks.against_mem_tracker

`torch.distributed._tools.mem_tracker.MemTracker` needs a GPU for `backward` on fake CUDA
tensors; here it gets this project's walk of the graph, so that it can answer at all. It sees
every update that the prediction sees. Prints a Markdown table; measures no memory.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from tabulate import tabulate
from torch.distributed._tools.mem_tracker import MemTracker
from tqdm import tqdm

from bench.cards import target_named
from bench.predict.backward import BackwardWalk
from bench.predict.cache import TraceCache
from bench.predict.illusion import illusion
from bench.predict.predictor import Predictor
from bench.predict.tracer import _blank_batch
from distill.assemble import assemble
from distill.candidate import Candidate
from distill.models import build
from distill.recipe import load_recipe

T = TypeVar("T")
MIB = 2**20
ROUNDS = 3
CASES = [
    ("teacher", "fp32", 0, 8),
    ("teacher", "fp16", 0, 16),
    ("assistant", "fp16", 0, 32),
    ("student", "fp16", 0, 64),
]


def candidates() -> list[Candidate]:
    return [
        replace(
            load_recipe("cifar10").candidate(stage, micro_batch=batch),
            accumulation=1,
            precision=precision,
            checkpointing=checkpointing,
            implementation="fused",
        )
        for stage, precision, checkpointing, batch in CASES
    ]


def tracked(candidate: Candidate) -> int:
    """Peak bytes of two updates as MemTracker sees them."""
    walk = BackwardWalk(in_place=False)
    with torch.device("meta"):
        student = build(candidate.student, checkpointing=candidate.checkpointing)
        teacher = None if candidate.teacher is None else build(candidate.teacher)
    with illusion("cuda", "flash" if candidate.precision != "fp32" else "efficient", walk.run):
        step = assemble(candidate, student, teacher, torch.device("cuda:0"))
        tracker = MemTracker()
        tracker.track_external(step.student, step.optimizer)
        if step.teacher is not None:
            tracker.track_external(step.teacher)
        with tracker:
            for _ in range(2):
                step.train([_blank_batch(candidate)])
                tracker.reset_mod_stats()  # it refuses a second forward; the peak stays
        (peak,) = (
            snapshot["Total"]
            for device, snapshot in tracker.get_tracker_snapshot("peak").items()
            if device.type == "cuda"
        )
    return int(peak)


def predicted(candidate: Candidate) -> tuple[int, int]:
    """Peak allocated and reserved bytes, traced anew."""
    target = target_named("rtx4050")
    prediction = Predictor(target, "expandable", TraceCache(None)).predict(candidate)
    return prediction.allocated, prediction.reserved


def timed(work: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    rows = []
    for candidate in tqdm(candidates(), unit="case"):
        theirs = [timed(lambda c=candidate: tracked(c)) for _ in range(ROUNDS)]
        ours = [timed(lambda c=candidate: predicted(c)) for _ in range(ROUNDS)]
        allocated, reserved = ours[0][1]
        rows.append(
            {
                "stage": candidate.stage,
                "precision": candidate.precision,
                "checkpointing": candidate.checkpointing,
                "batch": candidate.micro_batch,
                "MemTracker MiB": theirs[0][1] / MIB,
                "allocated MiB": allocated / MIB,
                "reserved MiB": reserved / MIB,
                "MemTracker s": statistics.median(t for t, _ in theirs),
                "bench s": statistics.median(t for t, _ in ours),
            }
        )
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=",.1f"))


if __name__ == "__main__":
    main()
