"""Traces of an NVIDIA driver in the file system, for where NVML does not answer. Loads nothing."""

from pathlib import Path

DRIVER_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""There is one of them where a driver is: on Linux, and under WSL2."""


def driver_device_exists() -> bool:
    """True if the system has a device node of an NVIDIA driver."""
    return any(device.exists() for device in DRIVER_DEVICES)
