"""The child of a trial: builds the step that trains, runs it, writes down what it read.

Out of memory is written as an outcome; all else is left to the parent, which sees how the process
ended.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.measure.host_share import Update
from bench.measure.jobs import TrialJob, read_job
from bench.measure.meter import Meter
from bench.measure.noise import keep_every_update, noise_update
from bench.trials.trial import Measured
from distill.base.files import write_json
from distill.device.cores import available_cores, useful_threads
from distill.step.assemble import assemble, built_teaching
from distill.step.memory import is_out_of_memory, pinned
from distill.step.models import build, build_student
from distill.step.step import Step

LOADED_LATE = ("timm", "torch._dynamo", "distill.train.checkpoint", "distill.train.evaluate")
"""What a job loads only while it runs, or its libraries do; a fork server has it beforehand."""


def work(job_path: Path, result_path: Path) -> None:
    """Run the job in this process, which must not have touched CUDA yet."""
    write_json(result_path, run(read_job(job_path, TrialJob)))


def preload() -> None:
    """Import all that a job needs, what libraries load late included, and touch no device."""
    for name in LOADED_LATE:
        import_module(name)


def run(job: TrialJob) -> dict[str, Any]:
    """The outcome as JSON: `ok` with a reading, or `oom` with PyTorch's words."""
    meter = Meter(torch.device(job.device), job.cap_bytes)
    try:
        with pinned(job.pins, meter.device):
            reading = _read(job, meter)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"outcome": "oom", "error": str(error).splitlines()[0]}
    return {"outcome": "ok", "reading": asdict(reading)}


def _read(job: TrialJob, meter: Meter) -> Measured:
    """Run the steps; peaks cold (from the start) and steady, times one by one, the host's share."""
    candidate = job.candidate
    if job.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:  # as a run has them
        torch.set_num_threads(useful_threads([candidate], available_cores()))
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    if candidate.teacher_logits == "caching":
        return _read_caching(job, meter)
    student = build_student(candidate)
    teacher = None if candidate.online_teacher is None else build(candidate.online_teacher)
    step = assemble(candidate, student, teacher, meter.device)
    keep_every_update(step)
    batches = noise_update(candidate, meter.device)
    update = partial(step.train, batches)
    meter.warm_up(update, job.warm_up)
    marked = meter.marked(step, batches)
    meter.cold()
    time_rounds(job, meter, update)
    reading = replace(meter.reading(), cap=job.cap, held={**held(step), **kept(marked)})
    return meter.with_host_share(
        reading, step, update, micro_batches=len(batches), count=job.count_launches
    )


def _read_caching(job: TrialJob, meter: Meter) -> Measured:
    """The same of the pass that caches a teacher's logits, a batch in the place of an update."""
    teaching = built_teaching(job.candidate, meter.device)
    update = partial(teaching, *noise_update(job.candidate, meter.device))
    meter.warm_up(update, job.warm_up)
    meter.cold()
    time_rounds(job, meter, update)
    return replace(meter.reading(), cap=job.cap)


def time_rounds(job: TrialJob, meter: Meter, update: Update) -> None:
    """Time the job's updates in its rounds, with pauses between them."""
    rounds = min(job.rounds, job.timed_steps)
    for number in range(rounds):
        time.sleep(job.pause_seconds if number else 0.0)
        steps = job.timed_steps // rounds + (number < job.timed_steps % rounds)
        meter.round(update, steps)


def held(step: Step) -> dict[str, int]:
    """Bytes of the tensors that can be counted one by one: weights, teacher, optimizer state."""

    def size(tensors: Iterable[object]) -> int:
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
