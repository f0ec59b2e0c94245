"""Micro-batches of noise, run where only bytes and seconds count."""

import numpy as np
import torch

from distill.data.batches import Batch, labels_shape, made_up_logits, views_of
from distill.data.pinned_memory import in_pinned_memory
from distill.spec.candidate import Candidate
from distill.step.step import Step


def noise_batch(candidate: Candidate, count: int | None = None) -> Batch:
    """A micro-batch of noise (or `count` images of it), so that no kernel meets an easy case."""
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
        made_up_logits(candidate, count),
    )


def noise_update(candidate: Candidate, device: torch.device) -> list[Batch]:
    """The micro-batches of an update, where training has them: in pinned memory for a card."""
    batches = [noise_batch(candidate) for _ in range(candidate.accumulation)]
    return [in_pinned_memory(batch) for batch in batches] if device.type == "cuda" else batches


def keep_every_update(step: Step) -> None:
    """Begin with a loss scale at which nothing overflows, so that no update is skipped.

    Noise overflows fp16 at the scaler's first 65,536. An update that is skipped allocates less, and
    is faster, than one that is made: foreach AdamW takes its temporaries only then.
    """
    state = step.scaler.state_dict()
    if state:  # empty where the precision has no use for a scaler
        step.scaler.load_state_dict({**state, "scale": 1.0})
