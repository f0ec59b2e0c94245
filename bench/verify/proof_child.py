"""The child of a verification: the chosen configuration as a run would use it, under its cap.

Trains whole updates and an epoch's smaller last one, evaluates, saves a checkpoint; with `resume`
it starts from that checkpoint instead. Out of memory is written as an outcome, all else is left to
the parent.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bench.measure.jobs import read_job
from bench.measure.noise import keep_every_update, noise_batch, noise_update
from bench.verify.proofs import ProofJob, ProofResult
from distill.base.files import write_json
from distill.data.batches import Batch, micro_batch_sizes
from distill.spec.candidate import Candidate
from distill.step.assemble import assemble
from distill.step.memory import (
    is_out_of_memory,
    pinned,
    read_peaks,
    read_usage,
    set_cap,
    synchronize,
)
from distill.step.meta_forward import fewest_images
from distill.step.models import build, build_student
from distill.step.step import Step
from distill.train.checkpoint import Identity, Position, load_latest, save_latest
from distill.train.run_folder import StageFolder


def work(job_path: Path, result_path: Path) -> None:
    """Run the job in this process, which must not have touched CUDA yet."""
    write_json(result_path, asdict(run(read_job(job_path, ProofJob))))


def run(job: ProofJob) -> ProofResult:
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


def _prove(job: ProofJob, device: torch.device) -> int:
    """Build, load, train, evaluate, save; how many updates were made."""
    candidate = job.candidate
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    student = build_student(candidate)
    teacher = None if candidate.online_teacher is None else build(candidate.online_teacher)
    step = assemble(candidate, student, teacher, device)
    keep_every_update(step)
    if job.resume:
        _load(job, step)
    full = noise_update(candidate, device)
    began, updates = time.perf_counter(), 0
    while updates < job.updates and (updates == 0 or time.perf_counter() - began < job.seconds):
        step.train(full)
        synchronize(device)
        updates += 1
    step.train(last_update(candidate, fewest_images(candidate)))
    step.evaluate(replace(noise_batch(candidate, candidate.images_evaluated_at_once), views=None))
    if job.checkpoint is not None and not job.resume:
        _save(job, step)
    step.train(full)
    synchronize(device)
    return updates + 2


def last_update(candidate: Candidate, fewest: int = 1) -> Sequence[Batch]:
    """The smaller update at an epoch's end; `fewest` images where the epoch's size is not known."""
    left = (candidate.images_per_epoch or fewest) % candidate.effective_batch
    sizes = micro_batch_sizes(left, candidate.micro_batch, fewest) or [candidate.micro_batch]
    return [noise_batch(candidate, size) for size in sizes]


def _parts(job: ProofJob) -> tuple[StageFolder, Identity]:
    assert job.checkpoint is not None
    identity = Identity(stage=job.candidate.stage, recipe="verification", teacher=None)
    return StageFolder(Path(job.checkpoint), "verification"), identity


def _save(job: ProofJob, step: Step) -> None:
    folder, identity = _parts(job)
    position = Position(rows=[], partial=None)
    save_latest(folder, identity, position, step.student, step.optimizer, step.scaler)


def _load(job: ProofJob, step: Step) -> None:
    folder, identity = _parts(job)
    if not folder.latest.exists():
        raise FileNotFoundError("there is no checkpoint to go on from")
    load_latest(folder, identity, step.student, step.optimizer, step.scaler)
