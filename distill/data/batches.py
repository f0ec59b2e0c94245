"""Cutting batches: which samples, in what order, seen how. All on the CPU, nothing random left.

A batch carries the draws for its views, not the views: `prepare` makes those on the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.candidate import InputSpec
from distill.data import draws
from distill.data.dataset import Split


@dataclass(frozen=True)
class Views:
    """How each image of a batch is seen: crop offsets (B,) int64 and flips (B,) bool."""

    offset_y: Tensor
    offset_x: Tensor
    flip: Tensor


@dataclass(frozen=True)
class Batch:
    """`images` (B, C, S, S) uint8, `labels` (B,) int64, both on the CPU.

    `views` is `None` where images are seen as they are.
    """

    images: Tensor
    labels: Tensor
    views: Views | None

    def __len__(self) -> int:
        return self.labels.shape[0]


def updates_per_epoch(samples: int, effective_batch: int) -> int:
    """Optimizer updates in an epoch, the last one possibly on fewer images."""
    return -(-samples // effective_batch)


def training_batches(
    data: Split, spec: InputSpec, *, seed: int, epoch: int, micro_batch: int, effective_batch: int
) -> Iterator[list[Batch]]:
    """One epoch as micro-batches, gathered by optimizer update."""
    rows = draws.order(len(data), seed, epoch)
    for start in range(0, len(rows), effective_batch):
        update = rows[start : start + effective_batch]
        yield [
            cut(
                data,
                update[at : at + micro_batch],
                views_of(spec, update[at : at + micro_batch], seed=seed, epoch=epoch),
            )
            for at in range(0, len(update), micro_batch)
        ]


def evaluation_batches(data: Split, batch_size: int) -> Iterator[Batch]:
    """All samples in order, seen as they are."""
    for start in range(0, len(data), batch_size):
        yield cut(data, np.arange(start, min(start + batch_size, len(data))), None)


def cut(data: Split, rows: NDArray[np.int64], views: Views | None) -> Batch:
    """The given rows as one batch."""
    return Batch(
        torch.from_numpy(np.ascontiguousarray(data.images[rows])),
        torch.from_numpy(data.labels[rows]),
        views,
    )


def views_of(spec: InputSpec, rows: NDArray[np.int64], *, seed: int, epoch: int) -> Views | None:
    """The draws for these samples in this epoch; `None` when nothing is random."""
    if not spec.crop_padding and not spec.flip:
        return None
    places = 2 * spec.crop_padding + 1
    if spec.flip:
        flip = draws.below(2, seed, epoch, rows, "flip").astype(bool)
    else:
        flip = np.zeros(len(rows), dtype=bool)
    return Views(
        torch.from_numpy(draws.below(places, seed, epoch, rows, "offset_y")),
        torch.from_numpy(draws.below(places, seed, epoch, rows, "offset_x")),
        torch.from_numpy(flip),
    )
