"""The child of a verification: the chosen configuration as a run would use it, under its cap.

`python -m bench.verify.prover JOB RESULT`. Trains whole updates and an epoch's smaller last one,
evaluates, saves a checkpoint; with `resume` it starts from that checkpoint instead. Out of
memory is written as an outcome, all else is left to the parent.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.measure.worker import noise_batch
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins, set_environment


@dataclass(frozen=True, kw_only=True)
class ProofJob:
    """What to train, and for how long: until `seconds` or `updates` are reached.

    `checkpoint` is the folder that the checkpoint is saved to, or with `resume` loaded from;
    `None` saves nothing.
    """

    candidate: Candidate
    pins: Pins
    device: str
    cap_bytes: int | None
    seconds: float
    updates: int
    checkpoint: str | None = None
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class ProofResult:
    """What the child came to; peaks are `None` on a CPU and where memory ended.

    `outside_bytes` is what was in use on the device beyond PyTorch's segments: the context with
    all kernels loaded, and other processes.
    """

    outcome: str
    error: str | None = None
    updates: int | None = None
    seconds: float | None = None
    reserved_bytes: int | None = None
    allocated_bytes: int | None = None
    alloc_retries: int | None = None
    outside_bytes: int | None = None


_JOB = TypeAdapter(ProofJob)


def proof_document(job: ProofJob) -> dict[str, Any]:
    """The job as JSON."""
    return {**asdict(job), "pins": job.pins.model_dump(mode="json")}


def main() -> None:
    """Read the job, run it, write the result whole; end with the process that asked."""
    from bench.measure.parent_death import end_with_parent
    from distill.base.files import write_json

    end_with_parent()
    job = _JOB.validate_python(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    set_environment(allocator=job.pins.allocator, deterministic=job.candidate.deterministic)
    write_json(Path(sys.argv[2]), asdict(_run(job)))


def _run(job: ProofJob) -> ProofResult:
    import torch

    from distill.step.memory import is_out_of_memory, pinned, read_peaks, read_usage, set_cap

    device = torch.device(job.device)
    if device.type == "cuda" and job.cap_bytes is not None:
        set_cap(job.cap_bytes, device)
    began = time.perf_counter()
    try:
        with pinned(job.pins, device):
            updates = _prove(job, device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return ProofResult(outcome="oom", error=str(error).splitlines()[0])
    peaks, usage = read_peaks(device), read_usage(device)
    return ProofResult(
        outcome="ok",
        updates=updates,
        seconds=time.perf_counter() - began,
        reserved_bytes=None if peaks is None else peaks.reserved_bytes,
        allocated_bytes=None if peaks is None else peaks.allocated_bytes,
        alloc_retries=None if peaks is None else peaks.alloc_retries,
        outside_bytes=None if usage is None else usage.outside_bytes,
    )


def _prove(job: ProofJob, device: Any) -> int:
    """Build, load, train, evaluate, save; how many updates were made."""
    import torch

    from distill.step.assemble import assemble
    from distill.step.memory import synchronize
    from distill.step.models import build

    candidate = job.candidate
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    student = build(candidate.student, checkpointing=candidate.checkpointing)
    teacher = None if candidate.teacher is None else build(candidate.teacher)
    step = assemble(candidate, student, teacher, device)
    if job.resume:
        _load(job, step)
    full = [noise_batch(candidate) for _ in range(candidate.accumulation)]
    began, updates = time.perf_counter(), 0
    while updates < job.updates and (updates == 0 or time.perf_counter() - began < job.seconds):
        step.train(full)
        synchronize(device)
        updates += 1
    step.train(last_update(candidate))
    step.evaluate(replace(noise_batch(candidate, candidate.images_evaluated_at_once), views=None))
    if job.checkpoint is not None and not job.resume:
        _save(job, step)
    step.train(full)
    synchronize(device)
    return updates + 2


def last_update(candidate: Candidate) -> Sequence[Any]:
    """The smaller update at an epoch's end; one image where the epoch's size is not known."""
    left = (candidate.images_per_epoch or 1) % candidate.effective_batch
    sizes = [candidate.micro_batch] * (left // candidate.micro_batch)
    rest = left % candidate.micro_batch
    return [noise_batch(candidate, size) for size in [*sizes, *([rest] if rest else [])]] or [
        noise_batch(candidate, candidate.micro_batch)
    ]


def _parts(job: ProofJob) -> tuple[Any, Any]:
    from distill.train.checkpoint import Identity
    from distill.train.run_folder import StageFolder

    assert job.checkpoint is not None
    identity = Identity(stage=job.candidate.stage, recipe="verification", teacher=None)
    return StageFolder(Path(job.checkpoint), "verification"), identity


def _save(job: ProofJob, step: Any) -> None:
    from distill.train.checkpoint import Position, save_latest

    folder, identity = _parts(job)
    position = Position(rows=[], partial=None)
    save_latest(folder, identity, position, step.student, step.optimizer, step.scaler)


def _load(job: ProofJob, step: Any) -> None:
    from distill.train.checkpoint import load_latest

    folder, identity = _parts(job)
    if not folder.latest.exists():
        raise FileNotFoundError("there is no checkpoint to go on from")
    load_latest(folder, identity, step.student, step.optimizer, step.scaler)


if __name__ == "__main__":
    main()
