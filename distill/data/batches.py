"""Cutting batches: which samples, in what order, seen how. All on the CPU, nothing random left.

A batch carries the draws for its views, not the views: `prepare` makes those on the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data import draws
from distill.data.ahead import in_order
from distill.data.dataset import Split
from distill.data.mixing import Mixing, mixing_of
from distill.data.pinned_memory import in_pinned_memory
from distill.data.share import WHOLE, Share
from distill.spec.candidate import Candidate, InputSpec, Precision

LOGITS_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""A teacher's logits that were made beforehand: as a linear head gives them in that precision."""


@dataclass(frozen=True)
class Views:
    """The view of each image of a batch: crop offsets (B,) int64 and flips (B,) bool.

    `height` and `width` (B,) int64 are the crop's, `None` where it is as large as the image.
    `mixing` says what each image is mixed with then, if it is.
    """

    offset_y: Tensor
    offset_x: Tensor
    flip: Tensor
    height: Tensor | None = None
    width: Tensor | None = None
    mixing: Mixing | None = None


@dataclass(frozen=True)
class Batch:
    """`images` (B, C, S, S) uint8, `labels` (B,) or (B, classes) int64, both on the CPU.

    `views` is `None` where images are seen as they are. `taught` (B, classes) are the teacher's
    logits for those views, where they were made beforehand.
    """

    images: Tensor
    labels: Tensor
    views: Views | None
    taught: Tensor | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True, kw_only=True)
class TeacherLogits:
    """The teacher's logits for several views of each training image, made before the training.

    `values` is (draws, images, classes), most often memory-mapped: a draw is one view of every
    image. bf16, which NumPy lacks, lies there as 16-bit integers. Making them took `seconds`.
    """

    values: NDArray[Any]
    precision: Precision
    seconds: float

    def draw_of(self, epoch: int) -> int:
        """The draw that an epoch replays: they come in turn."""
        return epoch % len(self.values)

    def at(self, draw: int, rows: NDArray[np.int64]) -> Tensor:
        """The logits (len(rows), classes) of one view of these images."""
        found = torch.from_numpy(np.ascontiguousarray(self.values[draw][rows]))
        return found.view(LOGITS_DTYPES[self.precision])


def updates_per_epoch(samples: int, effective_batch: int, fewest: int = 1) -> int:
    """Optimizer updates in an epoch, the last one possibly on fewer images, but `fewest`."""
    full, rest = divmod(samples, effective_batch)
    return full + (rest >= fewest)


def micro_batch_sizes(images: int, micro_batch: int, fewest: int = 1) -> list[int]:
    """The images of an update in micro-batches, as large as may be, none of fewer than `fewest`.

    Where the last would have fewer it takes some of the one before it; if that can't spare any,
    the last ones of the images are left out, so that no micro-batch is larger than planned.
    """
    full, rest = divmod(images, micro_batch)
    if not rest or rest >= fewest:
        return [micro_batch] * full + [rest] * (rest > 0)
    spared = micro_batch - (fewest - rest)
    if full and spared >= fewest:
        return [micro_batch] * (full - 1) + [spared, fewest]
    return [micro_batch] * full


def images_learnt_from(images: int, micro_batch: int, fewest: int = 1, share: Share = WHOLE) -> int:
    """The images of an update that all processes together compute, those left out not counted."""
    return sum(
        sum(micro_batch_sizes(len(part), micro_batch, fewest))
        for part in share.parts(images, fewest)
    )


def training_batches(
    data: Split,
    spec: InputSpec,
    *,
    seed: int,
    epoch: int,
    micro_batch: int,
    effective_batch: int,
    balanced: bool = False,
    fewest: int = 1,
    pin: bool = False,
    taught: TeacherLogits | None = None,
    share: Share = WHOLE,
) -> Iterator[list[Batch]]:
    """One epoch as micro-batches, gathered by optimizer update, cut by the data's workers.

    A `balanced` epoch draws every class as often; an image that comes twice is seen differently.
    With `taught` images are seen as in one of its draws, whose logits go with them. No micro-batch
    has fewer than `fewest` images: what would be left alone is left out. Only the `share` is cut,
    with `pin` in pinned memory, for a card.
    """
    rows = seen = draws.order(len(data), seed, epoch)
    if balanced:
        rows = draws.balanced_order(data.labels, seed, epoch)
        seen = np.arange(len(rows))
    draw = epoch if taught is None else taught.draw_of(epoch)
    updates = updates_per_epoch(len(rows), effective_batch, fewest)

    def micro(part: slice) -> Batch:
        logits = None if taught is None else taught.at(draw, rows[part])
        batch = cut(data, rows[part], views_of(spec, seen[part], seed=seed, epoch=draw), logits)
        return in_pinned_memory(batch) if pin else batch

    def update(start: int) -> list[Batch]:
        own = share.part(min(effective_batch, len(rows) - start), fewest)
        sizes = micro_batch_sizes(len(own), micro_batch, fewest)
        ends = accumulate(sizes, initial=start + own.start)
        return [micro(slice(*pair)) for pair in pairwise(ends)]

    return in_order(update, range(0, updates * effective_batch, effective_batch), data.workers)


def teaching_batches(
    data: Split,
    spec: InputSpec,
    *,
    seed: int,
    draw: int,
    first: int,
    batch_size: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """The images of one draw in order, from the `first` on, as the epoch of that number sees them.

    What `training_batches` replays.
    """

    def batch(start: int) -> Batch:
        rows = np.arange(start, min(start + batch_size, len(data)))
        whole = cut(data, rows, views_of(spec, rows, seed=seed, epoch=draw))
        return in_pinned_memory(whole) if pin else whole

    return in_order(batch, range(first, len(data), batch_size), data.workers)


def evaluation_batches(data: Split, batch_size: int, *, pin: bool = False) -> Iterator[Batch]:
    """All samples in order, seen as they are; with `pin` in pinned memory, for a card."""

    def batch(start: int) -> Batch:
        whole = cut(data, np.arange(start, min(start + batch_size, len(data))), None)
        return in_pinned_memory(whole) if pin else whole

    return in_order(batch, range(0, len(data), batch_size), data.workers)


def cut(
    data: Split, rows: NDArray[np.int64], views: Views | None, taught: Tensor | None = None
) -> Batch:
    """The given rows as one batch."""
    return Batch(
        torch.from_numpy(data.images_at(rows)),
        torch.from_numpy(data.labels[rows]),
        views,
        taught,
    )


def views_of(spec: InputSpec, rows: NDArray[np.int64], *, seed: int, epoch: int) -> Views | None:
    """The draws for these samples in this epoch; `None` when nothing is random."""
    mixing = mixing_of(spec, rows, seed=seed, epoch=epoch)
    if not spec.moves and mixing is None:
        return None
    flip = np.zeros(len(rows), dtype=bool)
    if spec.flip:
        flip = draws.below(2, seed, epoch, rows, "flip").astype(bool)
    height = width = None
    places_y: int | NDArray[np.int64] = 2 * spec.crop_padding + 1
    places_x = places_y
    if spec.crop_scale is not None:
        height, width = _crop_sizes(spec.source_size, spec.crop_scale, rows, seed, epoch)
        places_y, places_x = spec.source_size - height + 1, spec.source_size - width + 1
    return Views(
        torch.from_numpy(draws.below(places_y, seed, epoch, rows, "offset_y")),
        torch.from_numpy(draws.below(places_x, seed, epoch, rows, "offset_x")),
        torch.from_numpy(flip),
        None if height is None else torch.from_numpy(height),
        None if width is None else torch.from_numpy(width),
        mixing,
    )


def made_up_logits(candidate: Candidate, images: int) -> Tensor | None:
    """Zeros in the place of the teacher's logits that the candidate reads, if it reads any."""
    if candidate.teacher_logits != "cached":
        return None
    shape = (images, candidate.student.classes)
    return torch.zeros(shape, dtype=LOGITS_DTYPES[candidate.precision])


def labels_shape(spec: InputSpec, images: int, classes: int) -> tuple[int, ...]:
    """The shape of a batch's labels: one class number an image, or 0 and 1 for each class."""
    return (images, classes) if spec.multi_label else (images,)


def _crop_sizes(
    size: int, smallest: float, rows: NDArray[np.int64], seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heights and widths of random resized crops (Szegedy et al. 2015, as in torchvision).

    The share of the area is even in [smallest, 1], the ratio of the sides even in its logarithm
    in [3/4, 4/3]. A side that would be longer than the image is cut to it, where torchvision
    draws again: each crop needs a fixed number of draws.
    """
    area = size**2 * (smallest + (1 - smallest) * draws.unit(seed, epoch, rows, "area"))
    log_ratio = np.log(4 / 3) * (2 * draws.unit(seed, epoch, rows, "ratio") - 1)
    sides = (np.sqrt(area * np.exp(sign * log_ratio)) for sign in (-1, 1))
    height, width = (np.rint(side).astype(np.int64).clip(1, size) for side in sides)
    return height, width
