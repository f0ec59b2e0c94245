"""The rival: the plainest training loop that PyTorch and timm suggest, timed like a trial.

Takes of the candidate the models, the images and the batch, and nothing of what this project does:
full precision, no checkpointing, default AdamW, default kernels, a teacher under `no_grad`. It is
started without the environment's pins.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from bench.measure.jobs import TrialJob, read_job
from bench.measure.meter import Meter
from bench.measure.noise import noise_batch
from bench.measure.trial_child import time_rounds
from bench.trials.trial import Measured
from distill.base.files import write_json
from distill.data.batches import Batch
from distill.spec.candidate import Candidate
from distill.step.memory import is_out_of_memory
from distill.step.models import build
from distill.step.step import Phase, no_mark


def work(job_path: Path, result_path: Path) -> None:
    """Time the loop in this process, which must not have touched CUDA yet."""
    write_json(result_path, run(read_job(job_path, TrialJob)))


def run(job: TrialJob) -> dict[str, Any]:
    meter = Meter(torch.device(job.device), job.cap_bytes)
    try:
        reading = _time(job, meter)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"outcome": "oom", "error": str(error).splitlines()[0]}
    return {"outcome": "ok", "reading": asdict(reading)}


def _time(job: TrialJob, meter: Meter) -> Measured:
    loop = PlainLoop(job.candidate, meter.device)
    batches = [noise_batch(job.candidate) for _ in range(job.candidate.accumulation)]
    update = partial(loop.update, batches)
    meter.warm_up(update, job.warm_up)
    meter.cold()
    time_rounds(job, meter, update)
    reading = replace(meter.reading(), cap=job.cap)
    return meter.with_host_share(
        reading, loop, update, micro_batches=len(batches), count=job.count_launches
    )


class PlainLoop:
    """One model, its teacher if it has one, and AdamW as it comes."""

    def __init__(self, candidate: Candidate, device: torch.device) -> None:
        self.device, self.size = device, candidate.student.image_size
        self.mark: Callable[[Phase], None] = no_mark
        self.student = build(candidate.student).to(device).train()
        self.teacher = None
        if candidate.teacher is not None:
            self.teacher = build(candidate.teacher).to(device).eval()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-4)

    def update(self, batches: Sequence[Batch]) -> None:
        """One optimizer update from all batches."""
        self.optimizer.zero_grad()
        for batch in batches:
            images = batch.images.to(self.device).float() / 255
            images = F.interpolate(images, size=self.size, mode="bilinear")
            self.mark("forward")
            logits = self.student(images)
            loss = F.cross_entropy(logits, batch.labels.to(self.device))
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(images)
                soft = F.kl_div(
                    F.log_softmax(logits / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean"
                )
                loss = 0.3 * loss + 0.7 * 16 * soft
            self.mark("backward")
            (loss / len(batches)).backward()
        self.mark("update")
        self.optimizer.step()
