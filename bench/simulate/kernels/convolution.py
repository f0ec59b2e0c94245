"""A convolution, and the card that it would run on, as cuDNN wants them described. Pure."""

from dataclasses import dataclass
from typing import Any, Literal

from distill.spec.candidate import Precision

ConvolutionPass = Literal["forward", "backward_data", "backward_filter"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """One convolution of (N, C, H, W) by (K, C / groups, R, S), as it lies in memory."""

    input: Shape
    weight: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    number: Precision
    channels_last: bool = False

    @property
    def is_depthwise(self) -> bool:
        """True if every filter sees one channel, of several (Convolution.cpp, is_depthwise)."""
        return self.weight[1] == 1 < self.input[1] and self.weight[0] % self.input[1] == 0

    @property
    def is_pointwise(self) -> bool:
        """True for a matrix product: 1×1, stride 1, no padding, one group."""
        return (
            self.weight[1:] == (self.input[1], 1, 1)
            and set(self.stride) == {1}
            and not any(self.padding)
        )

    @property
    def output(self) -> Shape:
        """(N, K, P, Q)."""
        extent = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                self.input[2:],
                self.weight[2:],
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        ]
        return (self.input[0], self.weight[0], *extent)


def contiguous(shape: Shape) -> Shape:
    """Strides of (N, C, H, W) in that order."""
    _, channels, height, width = shape
    return (channels * height * width, height * width, width, 1)


def channels_last(shape: Shape) -> Shape:
    """Strides of (N, C, H, W) that lie as (N, H, W, C)."""
    _, channels, height, width = shape
    return (channels * height * width, 1, width * channels, channels)


def device_properties(compute_capability: Shape) -> dict[str, Any]:
    """A card of that capability; all keys are demanded, only `deviceVer` is seen to matter."""
    major, minor = compute_capability
    return {
        "maxGridSize": [2**31 - 1, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "regsPerBlock": 65536,
        "multiProcessorCount": 20,
        "warpSize": 32,
        "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 101376,
        "reservedSharedMemoryPerBlock": 1024,
        "maxRegistersPerSM": 65536,
        "maxCtasPerSM": 24,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 1536,
        "pciDeviceId": 0,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
        "totalGlobalMem": 6_055_526_400,
        "smClockRateKHz": 2_055_000,
        "memClockRateKHz": 8_001_000,
        "l2CacheSize": 25_165_824,
        "cudaDeviceId": 0,
        "deviceVer": 100 * major + 10 * minor,
        "driverVer": 13000,
        "deviceName": "card",
    }
