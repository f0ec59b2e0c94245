"""NVML at its boundary: pynvml's own functions raise its own errors, and nothing becomes 0."""

from types import SimpleNamespace

import pynvml
import pytest

from distill.device.nvml import DeviceState, driver_version, process_bytes, read_holders, read_state

VALUES = [name for name in DeviceState.__dataclass_fields__ if name != "missing"]
ASKED = (
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlSystemGetProcessName",
    "nvmlSystemGetDriverVersion",
)


def raising(code: int):
    def function(*arguments, **keywords):
        raise pynvml.NVMLError(code)

    return function


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch):
    """A driver with one card that answers all it is asked; `set` makes a function answer."""

    def put(**answers) -> None:
        for name, answer in answers.items():
            function = answer if callable(answer) else (lambda *a, _answer=answer, **k: _answer)
            monkeypatch.setattr(pynvml, name, function)

    put(
        nvmlInit=None,
        nvmlShutdown=None,
        nvmlDeviceGetCount=1,
        nvmlDeviceGetHandleByIndex="card",
        nvmlDeviceGetHandleByUUID=raising(pynvml.NVML_ERROR_NOT_FOUND),
        nvmlDeviceGetMemoryInfo=SimpleNamespace(used=300, free=700, total=1000),
        nvmlDeviceGetClockInfo=1500,
        nvmlDeviceGetTemperature=61,
        nvmlDeviceGetPowerUsage=35_500,
        nvmlDeviceGetPerformanceState=2,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x24,
        nvmlDeviceGetComputeRunningProcesses=lambda device: [process(7, 250), process(8, 50)],
        nvmlDeviceGetGraphicsRunningProcesses=lambda device: [process(9, None)],
        nvmlSystemGetProcessName=b"/home/somebody/bin/python3 train.py",
        nvmlSystemGetDriverVersion="580.95.05",
    )
    return put


def test_a_driver_that_answers_tells_it_all(library) -> None:
    state = read_state()
    assert (state.used_bytes, state.free_bytes, state.total_bytes) == (300, 700, 1000)
    assert (state.power_watts, state.power_state) == (35.5, "P2")
    assert state.throttle_reasons == ("power cap", "heat") and state.missing == {}
    assert driver_version() == "580.95.05"
    assert process_bytes(7) == (250, None)


def test_a_holder_is_named_without_its_folder(library) -> None:
    holders = read_holders().processes
    assert holders is not None
    assert [(h.pid, h.name, h.used_bytes) for h in holders] == [
        (7, "python3", 250),
        (8, "python3", 50),
        (9, "python3", None),
    ]


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED]
)
def test_without_the_library_everything_is_unknown_with_one_reason(library, code) -> None:
    library(nvmlInit=raising(code))
    state = read_state()
    assert all(getattr(state, name) is None for name in VALUES)
    assert set(state.missing) == set(VALUES)
    assert set(state.missing.values()) == {f"NVML: {pynvml.NVMLError(code)}"}
    assert read_holders().processes is None and read_holders().reason
    assert process_bytes(7)[0] is None and driver_version() is None


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_NOT_SUPPORTED])
def test_what_is_refused_is_unknown_and_never_nothing(library, code) -> None:
    library(**dict.fromkeys(ASKED, raising(code)))
    state = read_state()
    assert all(getattr(state, name) is None for name in VALUES)
    assert set(state.missing) == set(VALUES)
    holders = read_holders()
    assert holders.processes is None and str(pynvml.NVMLError(code)) in (holders.reason or "")
    used, reason = process_bytes(7)
    assert used is None and reason


@pytest.mark.parametrize("name", ASKED[:6])
def test_one_refusal_hides_only_what_it_is_about(library, name) -> None:
    library(**{name: raising(pynvml.NVML_ERROR_NOT_SUPPORTED)})
    state = read_state()
    unknown = {value for value in VALUES if getattr(state, value) is None}
    assert unknown == set(state.missing) and 1 <= len(unknown) <= 3


def test_under_wsl2_a_process_is_listed_without_its_memory(library) -> None:
    library(nvmlDeviceGetComputeRunningProcesses=lambda device: [process(7, None)])
    used, reason = process_bytes(7)
    assert used is None and reason is not None and "N/A" in reason


def test_in_a_container_this_process_is_not_listed(library) -> None:
    used, reason = process_bytes(4242)
    assert used is None and reason is not None and "container" in reason


def test_an_unknown_power_state_is_unknown(library) -> None:
    library(nvmlDeviceGetPerformanceState=32)
    state = read_state()
    assert state.power_state is None and "power_state" in state.missing


def test_an_older_driver_without_the_newer_memory_table_is_asked_the_older_one(library) -> None:
    def answer(device, version=None):
        if version is not None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return SimpleNamespace(used=1, free=2, total=3)

    library(nvmlDeviceGetMemoryInfo=answer)
    assert read_state().used_bytes == 1


def test_a_card_is_found_by_its_cuda_id(library) -> None:
    asked = []

    def by_uuid(uuid):
        asked.append(uuid)
        if not uuid.startswith("GPU-"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "card"

    library(nvmlDeviceGetHandleByUUID=by_uuid, nvmlDeviceGetHandleByIndex=raising(2))
    assert read_state("abc").used_bytes == 300
    assert asked == ["abc", "GPU-abc"]


def test_an_id_that_nvml_does_not_know_is_no_other_cards(library) -> None:
    assert read_state("a").used_bytes == 300  # it can only be the one that is there
    library(nvmlDeviceGetCount=2)
    state = read_state("a")
    assert state.used_bytes is None and "Not Found" in state.missing["used_bytes"]
    assert read_holders("a").processes is None
    assert read_state().used_bytes == 300
