"""Asking for the device: nothing there, a driver without a device, and one that fails."""

import sys
from pathlib import Path

import pytest
import torch

from bench.card import card_child
from bench.card.card_child import load_kernels
from bench.card.detect import detect_card
from distill.base.errors import RunFailed
from distill.device import driver

needs_no_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


@pytest.fixture
def driver_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a driver were there whose NVML does not answer, as in some containers."""
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(driver, "DRIVER_DEVICES", (tmp_path / "nvidiactl",))


@needs_no_card
def test_without_a_driver_no_child_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    assert detect_card() is None


@pytest.mark.slow
@needs_no_card
@pytest.mark.usefixtures("driver_device")
def test_with_a_silent_nvml_torch_is_asked() -> None:
    assert detect_card() is None


@pytest.mark.usefixtures("driver_device")
def test_a_child_that_fails_is_told_and_not_taken_for_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no kernel image' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(RunFailed, match="can't be used: no kernel image.*bench doctor"):
        detect_card()


def test_a_context_is_measured_with_what_a_step_loads_and_full_devices_are_let_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    precisions = []

    class Full:
        def train(self, batches) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def seen(candidate, student, teacher, device):
        precisions.append(candidate.precision)
        return Full() if len(precisions) == 3 else real(candidate, student, teacher, device)

    real = card_child.assemble
    monkeypatch.setattr(card_child, "assemble", seen)
    for capability in ((7, 5), (8, 9)):
        load_kernels(torch.device("cpu"), capability)
    assert precisions == ["fp32", "fp16", "fp32"]  # it ends where memory does
