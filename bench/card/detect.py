"""What CUDA device is there: asked in a child process, so that the asker never touches CUDA.

`python -m bench.card.detect` prints one JSON document, or `null` where there is no device.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure.isolate import last_words
from distill.base.errors import RunFailed
from distill.device.nvml import driver_version, read_state
from distill.spec.candidate import Precision
from distill.spec.profile import Target

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """A device as PyTorch and its driver describe it. Bytes; `None` is not known.

    `context_bytes` is what the asking child's own context took once libraries and kernels were
    loaded; where NVML does not answer, all that was in use, which can only be more.
    `others_bytes` is what was in use before, `free_bytes` what is free beside that context.
    `uuid` is for asking NVML about the same card; it names a machine, so no file has it.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int
    free_bytes: int
    context_bytes: int
    others_bytes: int | None = None
    driver: str | None
    uuid: str | None = None

    def as_target(self, name: str, *, like: Target) -> Target:
        """This card as a target, with the peak rates of the nearest known one."""
        return like.model_copy(
            update={
                "name": name,
                "title": self.name,
                "compute_capability": self.compute_capability,
                "multiprocessors": self.multiprocessors,
                "threads_per_multiprocessor": self.threads_per_multiprocessor,
                "total_bytes": self.total_bytes,
            }
        )


DRIVER_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""There is one of them where a driver is: on Linux, and under WSL2."""

ASK_SECONDS = 300.0


def ask_card() -> CardFacts | None:
    """The first CUDA device, or `None`. Raises `RunFailed` when the asking itself fails."""
    if driver_version() is None and not any(device.exists() for device in DRIVER_DEVICES):
        return None
    command = [sys.executable, "-m", "bench.card.detect"]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(
            f"The CUDA device did not answer within {ASK_SECONDS:g} s. bench doctor says more; "
            "--device predict needs no device."
        ) from error
    if child.returncode != 0:
        last = last_words(child.stderr) or f"exit status {child.returncode}"
        raise RunFailed(
            f"The CUDA device can't be used: {last}. bench doctor says more; --device predict "
            "needs no device."
        )
    document = json.loads(child.stdout)
    if document is None:
        return None
    capability = tuple(document.pop("compute_capability"))
    return CardFacts(compute_capability=capability, **document)


def _facts() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    uuid = str(properties.uuid)
    others_bytes = read_state(uuid).used_bytes
    load_kernels(torch.device("cuda"), (properties.major, properties.minor))
    tensors_bytes = torch.cuda.memory_reserved(0)
    free, total = torch.cuda.mem_get_info(0)
    used_after = read_state(uuid).used_bytes
    context_bytes = total - free - tensors_bytes
    if others_bytes is not None and used_after is not None:
        context_bytes = max(0, used_after - others_bytes - tensors_bytes)
    facts = CardFacts(
        name=properties.name,
        compute_capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        threads_per_multiprocessor=properties.max_threads_per_multi_processor,
        total_bytes=properties.total_memory,
        free_bytes=free + tensors_bytes,
        context_bytes=context_bytes,
        others_bytes=others_bytes,
        driver=driver_version(),
        uuid=uuid,
    )
    return asdict(facts)


def load_kernels(device: "torch.device", capability: tuple[int, int]) -> None:
    """One small update in each precision, pinned as runs are: what one loads into its context.

    CUDA loads kernels, cuBLAS and cuDNN their handles when they are first used, so that a context
    in which nothing ran is smaller than that of any run. A device too full for it has none.
    """
    from bench.measure.worker import noise_batch
    from distill.spec.pins import default_allocator, pins_for
    from distill.spec.recipe import load_recipe
    from distill.step.assemble import assemble
    from distill.step.memory import is_out_of_memory, pinned, release_cached, synchronize
    from distill.step.models import build

    smallest = load_recipe("cifar10").candidate("student", micro_batch=1)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    try:
        for precision in precisions if capability >= (8, 0) else precisions[:2]:
            candidate = replace(smallest, precision=precision, accumulation=1, teacher=None)
            pins = pins_for(
                precision, capability, deterministic=False, allocator=default_allocator()
            )
            with pinned(pins, device):
                step = assemble(candidate, build(candidate.student), None, device)
                step.train([noise_batch(candidate)])
                step.evaluate(noise_batch(candidate))
                synchronize(device)
                del step
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    release_cached(device)


if __name__ == "__main__":
    print(json.dumps(_facts()))
