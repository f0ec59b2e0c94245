"""What CUDA device is there: asked in a child process, so that the asker never touches CUDA.

`python -m bench.measure.card` prints one JSON document, or `null` where there is no device.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from distill.profile import Target


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """A device as PyTorch and its driver describe it. Bytes; `None` is not known."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int
    free_bytes: int
    context_bytes: int
    driver: str | None

    def as_target(self, like: Target) -> Target:
        """This card as a target, with the peak rates of the nearest known one."""
        return like.model_copy(
            update={
                "name": "auto",
                "title": self.name,
                "compute_capability": self.compute_capability,
                "multiprocessors": self.multiprocessors,
                "threads_per_multiprocessor": self.threads_per_multiprocessor,
                "total_bytes": self.total_bytes,
            }
        )


def driver_is_there() -> bool:
    """Whether NVML answers; without it there is no CUDA device and no need to ask torch."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


def ask_card() -> CardFacts | None:
    """The first CUDA device, or `None`."""
    if not driver_is_there():
        return None
    child = subprocess.run(
        [sys.executable, "-m", "bench.measure.card"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if child.returncode != 0:
        return None
    document = json.loads(child.stdout)
    if document is None:
        return None
    capability = tuple(document.pop("compute_capability"))
    return CardFacts(compute_capability=capability, **document)


def _facts() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.init()
    free_before, _ = torch.cuda.mem_get_info()
    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    properties = torch.cuda.get_device_properties(0)
    facts = CardFacts(
        name=properties.name,
        compute_capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        threads_per_multiprocessor=properties.max_threads_per_multi_processor,
        total_bytes=properties.total_memory,
        free_bytes=free,
        context_bytes=max(0, total - free - torch.cuda.memory_reserved()),
        driver=_driver(),
    )
    del free_before
    return asdict(facts)


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


if __name__ == "__main__":
    print(json.dumps(_facts()))
