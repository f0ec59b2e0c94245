"""Random numbers without a position: each is a function of (seed, epoch, sample id, purpose).

So no stream can be lost when a run is interrupted, and workers may cut batches in any order.
The mixing function is splitmix64 (Steele, Lea, Flood 2014).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal[
    "order",
    "offset_y",
    "offset_x",
    "flip",
    "area",
    "ratio",
    "balance",
    "mixed",
    "cut",
    "box_y",
    "box_x",
]

_PURPOSES: dict[Purpose, int] = {
    "order": 0,
    "offset_y": 1,
    "offset_x": 2,
    "flip": 3,
    "area": 4,
    "ratio": 5,
    "balance": 6,
    "mixed": 7,
    "cut": 8,
    "box_y": 9,
    "box_x": 10,
}


def bits(seed: int, epoch: int, samples: NDArray[np.int64], purpose: Purpose) -> NDArray[np.uint64]:
    """64 random bits for each sample id."""
    key = np.asarray(seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    for part in (epoch, _PURPOSES[purpose]):
        key = _mix(key ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF))
    return _mix(key ^ _mix(samples.astype(np.uint64)))


def unit(
    seed: int, epoch: int, samples: NDArray[np.int64], purpose: Purpose
) -> NDArray[np.float64]:
    """A number in [0, 1) for each sample id."""
    return (bits(seed, epoch, samples, purpose) >> np.uint64(11)) / np.float64(2**53)


def below(
    bound: int | NDArray[np.int64],
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    purpose: Purpose,
) -> NDArray[np.int64]:
    """A number in [0, bound) for each sample id; the bias is below bound / 2⁵³.

    `bound` may differ from sample to sample.
    """
    return np.floor(unit(seed, epoch, samples, purpose) * bound).astype(np.int64)


def beta(
    alpha: NDArray[np.float64],
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    purpose: Purpose,
) -> NDArray[np.float64]:
    """A number in [0, 1] for each sample id, from Beta(alpha, alpha) of the sample's own alpha.

    NumPy draws it, for each sample from the beginning of a stream of its own.
    """
    keys = bits(seed, epoch, samples, purpose)
    streams = (np.random.Generator(np.random.Philox(key=int(key))) for key in keys)
    return np.array([own.beta(a, a) for own, a in zip(streams, alpha, strict=True)])


def order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits samples 0 … count − 1."""
    return np.argsort(bits(seed, epoch, np.arange(count), "order"), kind="stable")


def balanced_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The same number of samples in which every class comes as often, to within one.

    So do the samples of a class: of a rare one each comes several times, of a frequent one each
    epoch takes others.
    """
    shuffled = order(len(labels), seed, epoch)
    present = np.unique(labels)
    each, more = divmod(len(labels), len(present))
    picked = []
    for place, label in enumerate(present):
        one_more = (place + epoch) % len(present) < more  # of another class in the next epoch
        picked.append(np.resize(shuffled[labels[shuffled] == label], each + one_more))
    places = np.argsort(bits(seed, epoch, np.arange(len(labels)), "balance"), kind="stable")
    return np.concatenate(picked)[places]


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = value + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
