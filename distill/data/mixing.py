"""Which images of a micro-batch are mixed, and how much: mixup and CutMix, drawn for each image.

Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix), each image with a share of its own as timm has
it in mode `elem`. Draws are functions of (seed, epoch, sample), and images that follow each other
are mixed: micro-batches of even sizes have the same pairs, however an update is cut.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data import draws
from distill.spec.candidate import InputSpec


@dataclass(frozen=True)
class Mixing:
    """What each image of a batch is mixed with.

    `partner` (B,) int64 is the other's place in the batch and `share` (B,) float32 the weight of
    the image's own label. `pixels` (B,) float32 is the weight of its own pixels outside `box`;
    there, from (B, 4) int64 top to bottom and left to right, the other's are. It is `None` without
    CutMix.
    """

    partner: Tensor
    share: Tensor
    pixels: Tensor
    box: Tensor | None = None


def mixing_of(spec: InputSpec, rows: NDArray[np.int64], *, seed: int, epoch: int) -> Mixing | None:
    """The draws for these samples in this epoch; `None` where images are not mixed."""
    if not spec.mixes:
        return None
    partner = torch.from_numpy(_partners(len(rows)))
    cut = _is_cut(spec, rows, seed, epoch)
    alpha = np.where(cut, spec.cutmix or 1.0, spec.mixup or 1.0)
    share = draws.beta(alpha, seed, epoch, rows, "mixed")
    if spec.cutmix is None:
        weights = torch.from_numpy(share.astype(np.float32))
        return Mixing(partner, weights, weights)
    assert spec.mixed_size is not None
    box = _boxes(np.where(cut, share, 1.0), spec.mixed_size, rows, seed, epoch)
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    share = np.where(cut, 1 - area / spec.mixed_size**2, share)  # what a border cut off counts
    pixels = np.where(cut, 1.0, share)
    weights, outside = (torch.from_numpy(one.astype(np.float32)) for one in (share, pixels))
    return Mixing(partner, weights, outside, torch.from_numpy(box))


def _partners(count: int) -> NDArray[np.int64]:
    """0 with 1, 2 with 3, and so on; of an odd number the last with the first."""
    partners = np.arange(count) ^ 1
    if count % 2:
        partners[-1] = 0
    return partners


def _is_cut(spec: InputSpec, rows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.bool_]:
    """True where a part of the other is pasted in; where both ways are asked for, for one half."""
    if spec.mixup is None or spec.cutmix is None:
        return np.full(len(rows), spec.mixup is None)
    return draws.below(2, seed, epoch, rows, "cut").astype(bool)


def _boxes(
    share: NDArray[np.float64], size: int, rows: NDArray[np.int64], seed: int, epoch: int
) -> NDArray[np.int64]:
    """(B, 4) boxes of 1 − share of the area around a point that is drawn, cut at the borders."""
    side = (size * np.sqrt(1 - share)).astype(np.int64)
    edges = []
    purposes: tuple[draws.Purpose, ...] = ("box_y", "box_x")
    for purpose in purposes:
        centre = draws.below(size, seed, epoch, rows, purpose)
        first = centre - side // 2
        edges += [first.clip(0, size), (first + side).clip(0, size)]
    return np.stack(edges, axis=1)
