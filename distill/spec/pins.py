"""The pins: what is fixed so that memory can be predicted and repeated, decided in one place.

Pure values and environment variables; `step.memory` applies the rest to torch. The environment
must be set before the first CUDA call of the process, and is set before torch is loaded where
that is possible (`cli.run_command`).
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal

from distill.base.units import KIB
from distill.spec.candidate import Allocator, Precision
from distill.spec.frozen import FrozenModel

Attention = Literal["flash", "efficient"]


class Pins(FrozenModel):
    """Attention kernel, cuBLAS workspace, cuDNN search and allocator settings."""

    attention: Attention
    cublas_workspace_config: str
    cudnn_benchmark: bool = False
    allocator: Allocator


def default_allocator() -> Allocator:
    """Expandable segments where they work (Linux), else the native allocator.

    Under WSL2 some drivers before R615 can't map them (pytorch/pytorch#192330).
    """
    return "expandable" if sys.platform == "linux" and not is_wsl() else "native"


def is_wsl(version_file: Path = Path("/proc/version")) -> bool:
    """True on Linux under Windows, in a container too."""
    try:
        return "microsoft" in version_file.read_text(encoding="utf-8").lower()
    except OSError:
        return False


def pins_for(
    precision: Precision,
    compute_capability: tuple[int, int],
    *,
    deterministic: bool,
    allocator: Allocator,
) -> Pins:
    """The pins of a configuration on a card.

    Flash attention needs half precision and compute capability 8.0 (aten/src/ATen/native/
    transformers/cuda/sdp_utils.cpp).
    """
    flash = precision != "fp32" and compute_capability >= (8, 0)
    return Pins(
        attention="flash" if flash else "efficient",
        cublas_workspace_config=workspace_config(deterministic),
        allocator=allocator,
    )


def cublas_workspace_bytes(pins: Pins) -> int:
    """The sum of the `:KIB:COUNT` pairs of the setting (ATen/cuda/CublasHandlePool.cpp)."""
    numbers = [int(part) for part in pins.cublas_workspace_config.split(":") if part]
    return sum(kib * KIB * count for kib, count in zip(numbers[::2], numbers[1::2], strict=True))


def workspace_config(deterministic: bool) -> str:
    """`CUBLAS_WORKSPACE_CONFIG`; in deterministic mode PyTorch accepts only `:4096:8`, `:16:8`."""
    return ":4096:8" if deterministic else ":4096:2:16:8"


UNPINNED = (
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE",
    "CUBLASLT_WORKSPACE_SIZE",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
)
"""What else would change memory, and is left at PyTorch's own."""


def set_environment(
    *,
    allocator: Allocator,
    deterministic: bool,
    environment: MutableMapping[str, str] | None = None,
) -> None:
    """Write the pins that CUDA libraries and the allocator read from the environment.

    PyTorch reads `PYTORCH_CUDA_ALLOC_CONF` before `PYTORCH_ALLOC_CONF` (c10/cuda/
    CUDAAllocatorConfig.h, 2.11), so the former is set and the latter removed.
    """
    target = os.environ if environment is None else environment
    target["CUBLAS_WORKSPACE_CONFIG"] = workspace_config(deterministic)
    target["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{allocator == 'expandable'}"
    for name in ("PYTORCH_ALLOC_CONF", *UNPINNED):
        target.pop(name, None)
