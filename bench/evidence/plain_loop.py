"""The rival: the plainest training loop that PyTorch and timm suggest, timed like a trial.

`python -m bench.evidence.plain_loop JOB RESULT`, as `worker`. Takes of the candidate the models,
the images and the batch, and nothing of what this project does: full precision, no checkpointing,
default AdamW, default kernels, a teacher under `no_grad`; the environment's pins are dropped.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.measure.worker import Job, noise_batch
from distill.spec.candidate import Candidate


def main() -> None:
    """Read the job, run it, write the result whole; end with the process that asked."""
    from bench.measure.parent_death import end_with_parent
    from distill.base.files import write_json

    end_with_parent()
    job_path, result_path = (Path(argument) for argument in sys.argv[1:3])
    job = TypeAdapter(Job).validate_python(json.loads(job_path.read_text(encoding="utf-8")))
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"):
        os.environ.pop(name, None)
    write_json(result_path, _run(job))


def _run(job: Job) -> dict[str, Any]:
    import torch

    from bench.measure.meter import Meter
    from distill.step.memory import is_out_of_memory

    meter = Meter(torch.device(job.device), job.cap_bytes)
    try:
        _time(job, meter)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"outcome": "oom", "error": str(error).splitlines()[0]}
    return {"outcome": "ok", "reading": {**meter.reading(), "cap": job.cap}}


def _time(job: Job, meter: Any) -> None:
    loop = PlainLoop(job.candidate, meter.device)
    batches = [noise_batch(job.candidate) for _ in range(job.candidate.accumulation)]
    for _ in range(job.warmup_steps):
        loop.update(batches)
    meter.cold()
    for _ in range(job.rounds):
        meter.round(lambda: loop.update(batches), max(1, job.timed_steps // job.rounds))


class PlainLoop:
    """One model, its teacher if it has one, and AdamW as it comes."""

    def __init__(self, candidate: Candidate, device: Any) -> None:
        import torch

        from distill.step.models import build

        self.device, self.size = device, candidate.student.image_size
        self.student = build(candidate.student).to(device).train()
        self.teacher = None
        if candidate.teacher is not None:
            self.teacher = build(candidate.teacher).to(device).eval()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-4)

    def update(self, batches: list[Any]) -> None:
        """One optimizer update from all batches."""
        import torch
        import torch.nn.functional as F

        self.optimizer.zero_grad()
        for batch in batches:
            images = batch.images.to(self.device).float() / 255
            images = F.interpolate(images, size=self.size, mode="bilinear")
            logits = self.student(images)
            loss = F.cross_entropy(logits, batch.labels.to(self.device))
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(images)
                soft = F.kl_div(
                    F.log_softmax(logits / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean"
                )
                loss = 0.3 * loss + 0.7 * 16 * soft
            (loss / len(batches)).backward()
        self.optimizer.step()


if __name__ == "__main__":
    main()
