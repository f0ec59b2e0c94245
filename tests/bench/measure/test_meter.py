"""A child's readings of a card, down to PyTorch's own functions; below them a boundary answers."""

import pytest
import torch

from bench.measure import meter as metering
from bench.measure.meter import Meter
from bench.measure.trial_child import kept
from bench.trials.trial import Measured
from distill.device.nvml import DeviceState
from distill.step.step import no_mark
from tests.conftest import CudaBoundary

MIB = 2**20


def state(used_bytes: int | None) -> DeviceState:
    missing = {} if used_bytes is not None else {"used_bytes": "not supported"}
    return DeviceState(used_bytes=used_bytes, missing=missing)


def read(boundary: CudaBoundary, steps: int = 4) -> Measured:
    for kind, size in (("requested", 90), ("allocated", 95), ("reserved", 100)):
        boundary.stats[f"{kind}_bytes.all.peak"] = size * MIB
        boundary.stats[f"{kind}_bytes.all.current"] = size * MIB
    boundary.stats["num_alloc_retries"] = 0
    meter = Meter(torch.device("cuda"), 5000 * MIB)
    meter.cold()
    boundary.stats["reserved_bytes.all.peak"] = 80 * MIB
    meter.round(lambda: None, steps)
    return meter.reading()


def test_peaks_context_and_cap_of_a_card(
    cuda_boundary: CudaBoundary, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([200 * MIB, 500 * MIB])
    monkeypatch.setattr(metering, "read_state", lambda uuid: state(next(used, 500 * MIB)))
    monkeypatch.setattr(metering, "process_bytes", lambda pid, uuid: (None, "a container"))
    reading = read(cuda_boundary)
    assert (reading.reserved_bytes, reading.cold_reserved_bytes) == (100 * MIB, 100 * MIB)
    assert reading.context_bytes == 300 * MIB
    assert reading.device_used_before_bytes == 200 * MIB
    assert reading.device_used_bytes == cuda_boundary.total_bytes - cuda_boundary.free_bytes
    assert (reading.process_bytes, reading.missing) == (None, {"process_bytes": "a container"})
    assert len(reading.step_seconds) == 4 and len(reading.rounds) == 2
    assert len(cuda_boundary.fractions) == 1


def test_what_an_update_keeps_is_told_from_its_phases(cuda_boundary: CudaBoundary) -> None:
    class TwoMicroBatches:
        mark = staticmethod(no_mark)

        def train(self, batches) -> None:
            for _ in batches:
                for phase, size in (("prepare", 50), ("forward", 60), ("backward", 90)):
                    cuda_boundary.stats["allocated_bytes.all.current"] = size
                    self.mark(phase)
            cuda_boundary.stats["allocated_bytes.all.current"] = 65
            self.mark("update")

    meter = Meter(torch.device("cuda"), None)
    marked = meter.marked(TwoMicroBatches(), [1, 2])
    assert kept(marked) == {"activations": 40, "gradients": 15}
    assert Meter(torch.device("cpu"), None).marked(TwoMicroBatches(), [1]) == []
    assert kept([]) == {}


def test_what_nvml_does_not_tell_is_none_with_the_reason(
    cuda_boundary: CudaBoundary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "read_state", lambda uuid: state(None))
    monkeypatch.setattr(metering, "process_bytes", lambda pid, uuid: (None, "no NVML"))
    reading = read(cuda_boundary)
    assert reading.context_bytes is None and reading.device_used_before_bytes is None
    assert set(reading.missing or ()) == {"used_bytes", "context_bytes", "process_bytes"}
