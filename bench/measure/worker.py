"""The child of a trial: builds the step that trains, runs it, writes down what it read.

`python -m bench.measure.worker JOB RESULT`, both JSON files. It never prints a result: what it
writes to stderr is kept as the error's detail. Out of memory is written as an outcome, all else
is left to the parent, which sees how the process ended.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.candidate import Candidate
from distill.pins import Pins, set_environment


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the child is to do. `cap_bytes` bounds what PyTorch may reserve."""

    candidate: Candidate
    pins: Pins
    device: str
    cap_bytes: int | None
    warmup_steps: int = 3
    timed_steps: int = 10


_JOB = TypeAdapter(Job)


def job_document(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    return {**asdict(job), "pins": job.pins.model_dump(mode="json")}


def main() -> None:
    """Read the job, run it, write the result whole."""
    job_path, result_path = (Path(argument) for argument in sys.argv[1:3])
    job = _JOB.validate_python(json.loads(job_path.read_text(encoding="utf-8")))
    set_environment(allocator=job.pins.allocator, deterministic=job.candidate.deterministic)
    from distill.files import write_json

    write_json(result_path, _run(job))


def _run(job: Job) -> dict[str, Any]:
    import torch

    from distill.memory import is_out_of_memory, pinned, set_cap

    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.init()
        if job.cap_bytes is not None:
            set_cap(job.cap_bytes, device)
    try:
        with pinned(job.pins, device):
            return {"outcome": "ok", "reading": _read(job, device)}
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"outcome": "oom", "error": str(error).splitlines()[0]}


def _read(job: Job, device: Any) -> dict[str, Any]:
    """Run the steps; peaks cold (from the start) and steady, times one by one."""
    import torch

    from distill.assemble import assemble
    from distill.memory import read_peaks, reset_peaks, synchronize
    from distill.models import build

    candidate = job.candidate
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    student = build(candidate.student, checkpointing=candidate.checkpointing)
    teacher = None if candidate.teacher is None else build(candidate.teacher)
    used_before = _device_used(device)
    step = assemble(candidate, student, teacher, device)
    batches = [_batch(candidate) for _ in range(candidate.accumulation)]
    for _ in range(job.warmup_steps):
        step.train(batches)
    synchronize(device)
    cold = read_peaks(device)
    reset_peaks(device)
    seconds = []
    for _ in range(job.timed_steps):
        began = time.perf_counter()
        step.train(batches)
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    steady = read_peaks(device)
    reading: dict[str, Any] = {"source": "measured", "step_seconds": seconds}
    if cold is not None and steady is not None:
        reading |= {
            "requested_bytes": max(cold.requested_bytes, steady.requested_bytes),
            "allocated_bytes": max(cold.allocated_bytes, steady.allocated_bytes),
            "reserved_bytes": max(cold.reserved_bytes, steady.reserved_bytes),
            "cold_reserved_bytes": cold.reserved_bytes,
            "alloc_retries": steady.alloc_retries,
            "device_used_bytes": _device_used(device),
            "context_bytes": used_before,
        }
    return reading


def _device_used(device: Any) -> int | None:
    """Bytes in use on the whole device, by everybody; `None` on a CPU."""
    import torch

    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _batch(candidate: Candidate) -> Any:
    """A batch of noise, so that no kernel meets an easy case."""
    import numpy as np
    import torch

    from distill.data.batches import Batch, labels_shape, views_of

    count, size = candidate.micro_batch, candidate.input.source_size
    shape = (count, candidate.student.channels, size, size)
    return Batch(
        torch.randint(0, 256, shape, dtype=torch.uint8),
        torch.randint(
            0,
            2 if candidate.input.multi_label else candidate.student.classes,
            labels_shape(candidate.input, count, candidate.student.classes),
        ),
        views_of(candidate.input, np.arange(count), seed=0, epoch=0),
    )


if __name__ == "__main__":
    main()
