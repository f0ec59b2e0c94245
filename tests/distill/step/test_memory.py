"""The device's memory: the cap as PyTorch takes it, and what running out of it looks like."""

import pytest
import torch

from distill.base.errors import ProfileMismatch
from distill.run.request import enforce
from distill.spec.profile import Budget
from distill.step.memory import is_out_of_memory, is_unmappable, read_peaks, set_cap
from tests.conftest import CudaBoundary

MIB = 2**20


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_the_cap_is_set_for_a_device_with_and_without_an_index(
    cuda_boundary: CudaBoundary, device: str
) -> None:
    set_cap(5000 * MIB, torch.device(device))
    ((fraction, index),) = cuda_boundary.fractions
    assert int(fraction * cuda_boundary.total_bytes) == 5000 * MIB and index == 0


def test_a_cap_above_the_card_is_none(cuda_boundary: CudaBoundary) -> None:
    set_cap(9 << 30, torch.device("cuda"))
    assert cuda_boundary.fractions == []


def budget_of(total_bytes: int) -> Budget:
    known = {f"{name}_source": "assumed" for name in ("card_total", "context", "desktop", "margin")}
    return Budget(
        nominal_gib=8,
        card_total_bytes=total_bytes,
        context_bytes=512 * MIB,
        desktop_bytes=0,
        margin_bytes=256 * MIB,
        limit_bytes=total_bytes - 768 * MIB,
        **known,
    )


def test_a_card_a_few_mib_smaller_than_assumed_is_taken(cuda_boundary: CudaBoundary) -> None:
    there = budget_of(cuda_boundary.total_bytes + 3 * MIB)
    assert "enforced by PyTorch" in enforce(there, torch.device("cuda", 0))
    assert len(cuda_boundary.fractions) == 1


def test_a_card_that_cannot_hold_limit_and_context_is_refused(cuda_boundary: CudaBoundary) -> None:
    with pytest.raises(ProfileMismatch, match="the CUDA context included"):
        enforce(budget_of(cuda_boundary.total_bytes + 257 * MIB), torch.device("cuda", 0))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_every_way_of_running_out_is_recognised(error: RuntimeError) -> None:
    assert is_out_of_memory(error) and not is_unmappable(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: unspecified launch failure"), MemoryError(), ValueError()]
)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("count", [0, 1])
def test_a_convolution_without_an_engine_ran_out_only_where_the_allocator_did(
    cuda_boundary: CudaBoundary, count: int
) -> None:
    cuda_boundary.stats["num_ooms"] = count
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert is_out_of_memory(error) is bool(count)


def test_a_driver_that_cannot_map_segments_did_not_run_out() -> None:
    assert is_unmappable(RuntimeError("CUDA driver error: unknown error"))
    assert not is_unmappable(RuntimeError("CUDA error: unknown error"))


def test_on_a_cpu_no_peak_is_read() -> None:
    assert read_peaks(torch.device("cpu")) is None
