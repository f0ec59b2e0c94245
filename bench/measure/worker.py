"""The child of a trial: builds the step that trains, runs it, writes down what it read.

`python -m bench.measure.worker JOB RESULT`, both JSON files, or `work` in a forked child. It
never prints a result: what it writes to stderr is kept as the error's detail. Out of memory is
written as an outcome, all else is left to the parent, which sees how the process ended.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.spec.candidate import Candidate
from distill.spec.pins import Pins, set_environment


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the child is to do. `cap_bytes` bounds what PyTorch may reserve.

    `timed_steps` are taken in `rounds`, with a pause between them, so that one bad moment of the
    machine does not make the whole reading. `cap` is how the reading calls its cap.
    """

    candidate: Candidate
    pins: Pins
    device: str
    cap_bytes: int | None
    cap: str | None = None
    warmup_steps: int = 3
    timed_steps: int = 12
    rounds: int = 3
    pause_seconds: float = 0.5


_JOB = TypeAdapter(Job)


def job_document(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    return {**asdict(job), "pins": job.pins.model_dump(mode="json")}


def main() -> None:
    """Read the job, run it, write the result whole; end with the process that asked."""
    from bench.measure.parent_death import end_with_parent

    end_with_parent()
    work(Path(sys.argv[1]), Path(sys.argv[2]))


def work(job_path: Path, result_path: Path) -> None:
    """Run the job in this process, which must not have touched CUDA yet."""
    from distill.base.files import write_json

    job = _JOB.validate_python(json.loads(job_path.read_text(encoding="utf-8")))
    set_environment(allocator=job.pins.allocator, deterministic=job.candidate.deterministic)
    write_json(result_path, _run(job))


def preload() -> None:
    """Import all that a job needs, what libraries load late included, and touch no device."""
    for name in (
        "timm",
        "torch._dynamo",
        "bench.measure.meter",
        "distill.step.assemble",
        "distill.train.checkpoint",
        "distill.train.evaluate",
    ):
        import_module(name)


def _run(job: Job) -> dict[str, Any]:
    import torch

    from bench.measure.meter import Meter
    from distill.step.memory import is_out_of_memory, pinned

    meter = Meter(torch.device(job.device), job.cap_bytes)
    try:
        with pinned(job.pins, meter.device):
            reading = _read(job, meter)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"outcome": "oom", "error": str(error).splitlines()[0]}
    return {"outcome": "ok", "reading": {**reading, "cap": job.cap}}


def _read(job: Job, meter: Any) -> dict[str, Any]:
    """Run the steps; peaks cold (from the start) and steady, times one by one."""
    import torch

    from distill.step.assemble import assemble
    from distill.step.models import build

    candidate = job.candidate
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    student = build(candidate.student, checkpointing=candidate.checkpointing)
    teacher = None if candidate.teacher is None else build(candidate.teacher)
    step = assemble(candidate, student, teacher, meter.device)
    batches = [noise_batch(candidate) for _ in range(candidate.accumulation)]
    for _ in range(job.warmup_steps):
        step.train(batches)
    marked = meter.marked(step, batches)
    meter.cold()
    rounds = min(job.rounds, job.timed_steps)
    for number in range(rounds):
        time.sleep(job.pause_seconds if number else 0.0)
        steps = job.timed_steps // rounds + (number < job.timed_steps % rounds)
        meter.round(lambda: step.train(batches), steps)
    return {**meter.reading(), "held": {**held(step), **kept(marked)}}


def held(step: Any) -> dict[str, int]:
    """Bytes of the tensors that can be counted one by one: weights, teacher, optimizer state."""
    import torch

    def size(tensors: Any) -> int:
        kept = {t.data_ptr(): t for t in tensors if isinstance(t, torch.Tensor) and t.numel()}
        device = step.prepare.device.type
        return sum(t.nbytes for t in kept.values() if t.device.type == device)

    models = {"weights": step.student, "teacher": step.teacher}
    counted = {
        name: 0 if model is None else size([*model.parameters(), *model.buffers()])
        for name, model in models.items()
    }
    states = step.optimizer.state.values()
    return {**counted, "optimizer_state": size([v for state in states for v in state.values()])}


def kept(marked: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Bytes of what an update keeps, from what was allocated as each of its phases began.

    Activations when the first backward begins, gradients when the update does; nothing where
    nothing is measured, as on a CPU.
    """
    first = dict(reversed(marked))  # of a phase that comes again
    if not first:
        return {}
    begin = first["prepare"]
    return {
        "activations": first["backward"] - begin,
        "gradients": first["update"] - begin,
    }


def noise_batch(candidate: Candidate, count: int | None = None) -> Any:
    """A micro-batch of noise (or `count` images of it), so that no kernel meets an easy case."""
    import numpy as np
    import torch

    from distill.data.batches import Batch, labels_shape, views_of

    count, size = count or candidate.micro_batch, candidate.input.source_size
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
