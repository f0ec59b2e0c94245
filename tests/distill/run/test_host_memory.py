"""A step on the CPU that the machine has no memory for is refused before it takes all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.base.errors import UserError
from distill.run.host_memory import available_bytes, check_host_memory, kept_bytes
from distill.spec.candidate import Candidate
from distill.spec.recipe import load_recipe
from distill.step.models import build


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A machine with 2 GiB available and 1 GiB of swap."""
    path = tmp_path / "meminfo"
    path.write_text("MemFree:  99 kB\nMemAvailable:  2097152 kB\nSwapFree:   1048576 kB\n")
    return path


def candidate_of(image_size: int, micro_batch: int = 8) -> Candidate:
    whole = load_recipe("demo").candidate("student")
    model = replace(whole.student, image_size=image_size)
    return replace(whole, student=model, micro_batch=micro_batch)


def test_what_is_counted_is_what_a_real_forward_keeps() -> None:
    candidate = candidate_of(8)
    model = build(candidate.student).train()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(torch.zeros(3, candidate.student.channels, 8, 8))
    assert len(logits) == 3
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    beside = sum(one.untyped_storage().nbytes() for at, one in kept.items() if at not in weights)
    of_weights = sum(one.nbytes for one in model.parameters())
    assert kept_bytes(candidate, 3) == (of_weights, beside)


def test_a_step_beyond_the_memory_is_refused_with_the_cure(memory: Path) -> None:
    assert available_bytes(memory) == 3 * 2**30
    with pytest.raises(UserError, match="3.00 GiB of memory left. Take fewer pixels: --image-size"):
        check_host_memory(candidate_of(4096), memory)
    with pytest.raises(UserError, match="Take --batch-size [0-9]+ or less, or fewer pixels"):
        check_host_memory(candidate_of(256, micro_batch=64), memory)


def test_what_fits_or_cannot_be_told_is_not_refused(memory: Path, tmp_path: Path) -> None:
    check_host_memory(candidate_of(8), memory)
    check_host_memory(candidate_of(128, micro_batch=1), memory)
    check_host_memory(candidate_of(4096), tmp_path / "no such file")
    check_host_memory(replace(candidate_of(4096), checkpointing=1), memory)
