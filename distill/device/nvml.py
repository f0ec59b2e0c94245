"""The driver's answers through NVML: memory in use and by whom, clocks, power, throttling.

Every value may be missing, each for a reason of its own: no library, no permission, a container
without the host's process ids, WSL2, where whole tables are N/A. What is missing is `None` with
its reason in `missing`; it is never 0, and nothing here requires NVML to be there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")

THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""What makes a card slower than it could be, by NVML's bits (nvmlClocksEventReasons); an idle
card's reasons are left out."""

UNKNOWN_POWER_STATE = 32
"""NVML_PSTATE_UNKNOWN."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds memory of the device. `None` is not told, never none."""

    pid: int
    name: str | None
    used_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """The device at one moment. `missing` says of each `None` why."""

    used_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_state: str | None = None
    throttle_reasons: tuple[str, ...] | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Holders:
    """The processes that hold memory; `reason` says why none can be named."""

    processes: tuple[Holder, ...] | None
    reason: str | None = None


def read_state(uuid: str | None = None) -> DeviceState:
    """The device's state now, as far as NVML tells it. Never raises for what NVML refuses."""
    missing: dict[str, str] = {}
    with _device(uuid) as (device, reason):
        if device is None:
            names = [name for name in DeviceState.__dataclass_fields__ if name != "missing"]
            return DeviceState(missing=dict.fromkeys(names, reason))
        return _state(device, missing)


def read_holders(uuid: str | None = None) -> Holders:
    """Every process with memory on the device, compute and graphics."""
    with _device(uuid) as (device, reason):
        if device is None:
            return Holders(processes=None, reason=reason)
        found: dict[int, Holder] = {}
        refused: list[str] = []
        for ask in (
            pynvml.nvmlDeviceGetComputeRunningProcesses,
            pynvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            try:
                processes = ask(device)
            except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
                refused.append(_words(error))
                continue
            for process in processes:
                found[process.pid] = Holder(
                    pid=process.pid,
                    name=_process_name(process.pid),
                    used_bytes=process.usedGpuMemory,
                )
        if len(refused) == 2:
            return Holders(processes=None, reason=refused[0])
        return Holders(processes=tuple(found.values()))


def process_bytes(pid: int, uuid: str | None = None) -> tuple[int | None, str | None]:
    """The bytes that one process holds, or `None` and the reason."""
    holders = read_holders(uuid)
    if holders.processes is None:
        return None, holders.reason
    for holder in holders.processes:
        if holder.pid == pid:
            if holder.used_bytes is None:
                return None, "NVML lists the process without its memory (N/A, as under WSL2)"
            return holder.used_bytes, None
    return None, "NVML does not list this process (a container sees other process ids)"


def driver_version() -> str | None:
    """The driver's version, `None` where NVML does not answer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def _device(uuid: str | None) -> Iterator[tuple[Any | None, str]]:
    """A handle of the device, or `None` and the reason; NVML is shut down again after."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield None, _words(error)
        return
    try:
        try:
            device, reason = _handle(uuid), ""
        except pynvml.NVMLError as error:
            device, reason = None, _words(error)
        yield device, reason
    finally:
        pynvml.nvmlShutdown()


def _handle(uuid: str | None) -> Any:
    """The device of that CUDA id, or the first one when no id is given.

    An id that NVML does not know is the first device's only where there is no other.
    """
    unknown = None
    for prefix in ("", "GPU-", "MIG-") if uuid is not None else ():
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(prefix + str(uuid))
        except pynvml.NVMLError as error:
            unknown = error
    if unknown is not None and pynvml.nvmlDeviceGetCount() != 1:
        raise unknown
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def _state(device: Any, missing: dict[str, str]) -> DeviceState:
    def ask(names: tuple[str, ...], get: Callable[[], T]) -> T | None:
        try:
            return get()
        except pynvml.NVMLError as error:
            missing.update(dict.fromkeys(names, _words(error)))
            return None

    memory = ask(("used_bytes", "free_bytes", "total_bytes"), lambda: _memory(device))
    milliwatts = ask(("power_watts",), lambda: int(pynvml.nvmlDeviceGetPowerUsage(device)))
    state = ask(("power_state",), lambda: int(pynvml.nvmlDeviceGetPerformanceState(device)))
    if state == UNKNOWN_POWER_STATE:
        state, missing["power_state"] = None, "NVML: unknown"
    return DeviceState(
        used_bytes=None if memory is None else int(memory.used),
        free_bytes=None if memory is None else int(memory.free),
        total_bytes=None if memory is None else int(memory.total),
        sm_clock_mhz=ask(
            ("sm_clock_mhz",),
            lambda: int(pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM)),
        ),
        memory_clock_mhz=ask(
            ("memory_clock_mhz",),
            lambda: int(pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_MEM)),
        ),
        temperature_celsius=ask(
            ("temperature_celsius",),
            lambda: int(pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU)),
        ),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        power_state=None if state is None else f"P{state}",
        throttle_reasons=ask(("throttle_reasons",), lambda: _throttle(device)),
        missing=missing,
    )


def _memory(device: Any) -> Any:
    """Memory in use without what the driver keeps for itself, where this driver tells it apart."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:
        return pynvml.nvmlDeviceGetMemoryInfo(device)


def _throttle(device: Any) -> tuple[str, ...]:
    bits = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))
    return tuple(words for bit, words in THROTTLE_REASONS.items() if bits & bit)


def _process_name(pid: int) -> str | None:
    """The program's name without its folder, which may name a user."""
    try:
        name = pynvml.nvmlSystemGetProcessName(pid)
    except pynvml.NVMLError:
        return None
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return text.replace("\\", "/").rsplit("/", 1)[-1].split(" ", 1)[0] or None


def _words(error: Exception) -> str:
    return f"NVML: {error}"
