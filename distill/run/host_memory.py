"""A step on the CPU held against the machine's memory, which ends with a kill and no error.

Counts what is certain: weights, their gradients and what the student's forward keeps for backward,
traced on fake CPU tensors. A step takes more. Knows no limit of a container.
"""

import re
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from distill.base.errors import UserError
from distill.base.units import KIB, bytes_text
from distill.spec.candidate import Candidate
from distill.step.models import build
from distill.step.step import autocast

MEMORY = Path("/proc/meminfo")

MOST_OF_PIXELS = 1000
"""Memory for so many times the images' bytes is not looked at closer, which takes seconds: at
224 px ViT-Base keeps 196 times as much, DenseNet-121 217."""


def check_host_memory(candidate: Candidate, memory: Path = MEMORY) -> None:
    """Refuse, as a `UserError`, a micro-batch that surely needs more memory than is available."""
    images = min(candidate.micro_batch, candidate.images_per_epoch or candidate.micro_batch)
    size, available = candidate.student.image_size, available_bytes(memory)
    pixel_bytes = images * candidate.student.channels * size**2 * torch.float32.itemsize
    if (
        available is None
        or candidate.checkpointing != 0
        or pixel_bytes * MOST_OF_PIXELS < available
    ):
        return
    try:
        weights, kept = kept_bytes(candidate, images)
    except (NotImplementedError, RuntimeError):  # an operator that needs numbers tells nothing
        return
    room = available - 2 * weights
    if kept <= room:
        return
    fitting = max(room, 0) * images // kept
    fewer = f"--batch-size {fitting} or less, or " if fitting else ""
    raise UserError(
        f"Stage {candidate.stage} keeps at least {bytes_text(kept)} for {images} images of {size} "
        f"px at a time, and this machine has {bytes_text(available)} of memory left. Take {fewer}"
        "fewer pixels: --image-size."
    )


def available_bytes(memory: Path = MEMORY) -> int | None:
    """What the kernel could still give, swap too; `None` where it does not say (`proc(5)`)."""
    try:
        found = re.findall(r"^(?:MemAvailable|SwapFree): +(\d+) kB$", memory.read_text(), re.M)
    except OSError:
        return None
    return sum(map(int, found)) * KIB if len(found) == 2 else None


def kept_bytes(candidate: Candidate, images: int) -> tuple[int, int]:
    """The bytes of the student's weights, and of what its forward keeps beside them."""
    spec, kept = candidate.student, dict[int, torch.UntypedStorage]()

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.device("meta"):
        built = build(spec, patch_drop_rate=candidate.patch_drop_rate).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = built.to_empty(device="cpu")
        pixels = torch.empty(images, spec.channels, spec.image_size, spec.image_size)
        with (
            saved_tensors_hooks(keep, lambda tensor: tensor),
            autocast(candidate.precision, pixels.device),
        ):
            model(pixels)
        weights = {one.untyped_storage()._cdata: one.nbytes for one in model.parameters()}
    beside = sum(one.nbytes() for number, one in kept.items() if number not in weights)
    return sum(weights.values()), beside
