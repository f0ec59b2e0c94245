"""The device's memory: pins applied, the cap set, peaks read, out-of-memory recognised.

The one memory meter and the one place that knows what running out of memory looks like.
Decides nothing.
"""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.spec.pins import Pins

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Peaks of the caching allocator since the last reset, and what it had to do for them."""

    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    alloc_retries: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The device's memory now: PyTorch's own, its peak since the last reset, and all programs'."""

    allocated_bytes: int
    reserved_bytes: int
    peak_reserved_bytes: int
    device_used_bytes: int

    @property
    def outside_bytes(self) -> int:
        """Bytes in use beyond PyTorch's segments: this process's context, and other processes."""
        return self.device_used_bytes - self.reserved_bytes


_OUT_OF_MEMORY_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",  # c10/core/impl/alloc_cpu.cpp
    "CUDA error: out of memory",  # a library or the driver, past PyTorch's allocator
    "CUDA driver error: out of memory",  # mapping an expandable segment
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # CUDNN_STATUS_INTERNAL_ERROR_…, as cuDNN 9 says it
)

_NO_ENGINE = "unable to find an engine to execute this computation"
"""cuDNN tried every plan; it says so of kernels that are missing, and where memory ended."""

_NO_SEGMENT = "CUDA driver error"
"""Some WSL2 drivers before R615 can't map an expandable segment (pytorch/pytorch#192330)."""


@contextlib.contextmanager
def pinned(pins: Pins | None, device: torch.device) -> Iterator[None]:
    """Hold torch to the pins while inside. `pins.set_environment` must have run before."""
    if pins is None or device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = pins.cudnn_benchmark
    try:
        with sdpa_kernel([_BACKENDS[pins.attention]]):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


def set_cap(limit_bytes: int, device: torch.device) -> None:
    """Let PyTorch itself refuse what would go over `limit_bytes` reserved.

    The fraction is of the card's total (`setMemoryFraction`, c10/cuda/CUDACachingAllocator.cpp);
    a fraction of 1 or more means no cap. Half a byte more keeps PyTorch's rounding down from
    losing the last byte of the limit.
    """
    index = device.index or 0  # of all calls only this one refuses a device without an index
    total_bytes = torch.cuda.get_device_properties(index).total_memory
    if limit_bytes < total_bytes:
        torch.cuda.set_per_process_memory_fraction((limit_bytes + 0.5) / total_bytes, index)


def reset_peaks(device: torch.device) -> None:
    """Start a new peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def read_peaks(device: torch.device) -> Peaks | None:
    """The peaks since the last reset; `None` where there is nothing to measure."""
    if device.type != "cuda":
        return None
    stats = torch.cuda.memory_stats(device)
    return Peaks(
        requested_bytes=stats["requested_bytes.all.peak"],
        allocated_bytes=stats["allocated_bytes.all.peak"],
        reserved_bytes=stats["reserved_bytes.all.peak"],
        alloc_retries=stats["num_alloc_retries"],
    )


def read_usage(device: torch.device) -> Usage | None:
    """The memory in use now; `None` where there is nothing to measure."""
    if device.type != "cuda":
        return None
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return Usage(
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
        device_used_bytes=total_bytes - free_bytes,
    )


def read_device_usage() -> int | None:
    """Bytes of the first GPU that all programs use together; `None` without a GPU."""
    if not torch.cuda.is_available():
        return None
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    return total_bytes - free_bytes


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_cached(device: torch.device) -> None:
    """Give what the allocator holds unused back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def empty_allocator(device: torch.device) -> None:
    """Leave the allocator as a fresh process finds it, once no tensor is held any more.

    cuBLAS's workspaces are tensors that its handles keep (CUDABlas, `getNewWorkspace`): left in
    place they split the range of addresses, and the next stage reserves more than is predicted.
    """
    if device.type == "cuda":
        gc.collect()  # models hold themselves in circles, through hooks and partial functions
        torch.cuda.synchronize(device)
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True if `error` says that the device's memory ended, or the host's where that is the device.

    PyTorch's allocator raises `OutOfMemoryError`; what libraries and the CPU's allocator raise
    is a plain `RuntimeError` and told by its words.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if _NO_ENGINE in str(error):
        return torch.cuda.is_initialized() and bool(torch.cuda.memory_stats()["num_ooms"])
    return any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


def is_unmappable(error: BaseException) -> bool:
    """True if the driver could not map an expandable segment though there is memory."""
    return (
        isinstance(error, RuntimeError)
        and _NO_SEGMENT in str(error)
        and not is_out_of_memory(error)
    )
