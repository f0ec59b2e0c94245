"""What is pinned, and where it is written."""

import pytest

from distill.spec import pins as pinning
from distill.spec.pins import cublas_workspace_bytes, default_allocator, pins_for, set_environment


@pytest.mark.parametrize(
    ("precision", "capability", "attention"),
    [
        ("fp16", (8, 9), "flash"),
        ("bf16", (9, 0), "flash"),
        ("fp32", (8, 9), "efficient"),
        ("fp16", (7, 5), "efficient"),
    ],
)
def test_flash_needs_half_precision_and_ampere(precision, capability, attention) -> None:
    pins = pins_for(precision, capability, deterministic=False, allocator="native")
    assert pins.attention == attention


@pytest.mark.parametrize(("deterministic", "size"), [(False, 8_519_680), (True, 8 * 4096 * 1024)])
def test_the_workspace_is_the_sum_of_the_pairs(deterministic: bool, size: int) -> None:
    pins = pins_for("fp16", (8, 9), deterministic=deterministic, allocator="native")
    assert cublas_workspace_bytes(pins) == size


@pytest.mark.parametrize(("wsl", "allocator"), [(False, "expandable"), (True, "native")])
def test_under_windows_segments_do_not_expand(monkeypatch, wsl: bool, allocator: str) -> None:
    monkeypatch.setattr(pinning.sys, "platform", "linux")
    monkeypatch.setattr(pinning, "is_wsl", lambda: wsl)
    assert default_allocator() == allocator


def test_the_variable_that_torch_reads_first_is_set_and_the_other_removed() -> None:
    environment = {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}
    set_environment(allocator="expandable", deterministic=False, environment=environment)
    assert environment == {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:2:16:8",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
