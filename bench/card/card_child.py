"""The child that asks the CUDA device that is here what it is, and measures a context on it."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from bench.card.detect import CardFacts
from bench.measure.noise import noise_batch
from distill.base.files import write_json
from distill.device.nvml import driver_version, read_state
from distill.spec.candidate import Precision
from distill.spec.pins import default_allocator, pins_for
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.memory import is_out_of_memory, pinned, release_cached, synchronize
from distill.step.models import build


def work(job_path: Path, result_path: Path) -> None:
    """Write the facts of the first device, or null where there is none; there is no job."""
    found = facts()
    write_json(result_path, {"card": None if found is None else asdict(found)})


def facts() -> CardFacts | None:
    """Read the first device, or `None` without one."""
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
    return CardFacts(
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


def load_kernels(device: torch.device, capability: tuple[int, int]) -> None:
    """One small update in each precision, pinned as runs are: what one loads into its context.

    CUDA loads kernels, cuBLAS and cuDNN their handles when they are first used, so that a context
    in which nothing ran is smaller than that of any run. A device too full for it has none.
    """

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
