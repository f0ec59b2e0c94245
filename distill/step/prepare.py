"""The way of a batch from uint8 on the CPU to the input of the model: view, resize, normalise.

Runs on the device, in batch, and belongs to the step, so that its memory is measured and
predicted with it. Normalises before it resizes, which is the same, as a resize is a mean, and
touches the fewer pixels. Draws nothing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.batches import Batch, Views
from distill.data.mixing import Mixing
from distill.spec.candidate import InputSpec
from distill.step.losses import MixedLabels
from distill.step.models import Normalisation


class Prepare:
    """uint8 (B, C, S, S) → float32 (B, C, image_size, image_size), normalised."""

    def __init__(
        self,
        spec: InputSpec,
        image_size: int,
        normalisation: Normalisation,
        device: torch.device,
        *,
        teacher: Normalisation | None = None,
    ) -> None:
        self.spec = spec
        self.image_size = image_size
        self.device = device
        mean, std = (_by_channel(values) for values in (normalisation.mean, normalisation.std))
        self.mean, self.std = (mean * 255).to(device), (std * 255).to(device)
        self.teacher_scale = self.teacher_shift = None
        if teacher is not None and teacher != normalisation:
            other_mean, other_std = _by_channel(teacher.mean), _by_channel(teacher.std)
            self.teacher_scale = (std / other_std).to(device)
            self.teacher_shift = ((mean - other_mean) / other_std).to(device)

    def __call__(self, batch: Batch) -> Tensor:
        """The batch's images as its views show them."""
        if batch.views is None or batch.views.mixing is None:
            return self._seen(batch.images, batch.views)
        return self._mixed(self._seen(batch.images, batch.views), batch.views.mixing)

    def _seen(self, stored: Tensor, views: Views | None) -> Tensor:
        """Each image by itself."""
        images = stored.to(self.device, non_blocking=True)
        if not self.spec.moves:
            views = None
        resized_crop = views is not None and self.spec.crop_scale is not None
        if views is not None and not resized_crop:
            images = self._view(images, views)
        floats = images.float().sub_(self.mean).div_(self.std)
        del images  # the resize below must not meet both copies
        if views is not None and resized_crop:
            return self._resized_crop(floats, views)
        if floats.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            floats = F.interpolate(floats, size=size, mode="bilinear", antialias=True)
        return floats

    def mixed_labels(self, batch: Batch, labels: Tensor) -> MixedLabels | None:
        """The labels (on the device) of the images that the batch's are mixed with, if they are."""
        if batch.views is None or batch.views.mixing is None:
            return None
        mixing = batch.views.mixing
        partner = mixing.partner.to(self.device, non_blocking=True)
        return MixedLabels(labels[partner], mixing.share.to(self.device, non_blocking=True))

    def for_teacher(self, images: Tensor) -> Tensor:
        """The images as the teacher's own normalisation has them; as they are where it agrees."""
        if self.teacher_scale is None or self.teacher_shift is None:
            return images
        return (images * self.teacher_scale).add_(self.teacher_shift)

    def _mixed(self, images: Tensor, mixing: Mixing) -> Tensor:
        """Each image with its partner's pixels in the box, and mixed with them elsewhere."""
        weight = mixing.pixels.to(self.device, non_blocking=True)[:, None, None, None]
        if mixing.box is not None:
            edges = mixing.box.to(self.device, non_blocking=True)[:, :, None].unbind(1)
            steps = torch.arange(self.image_size, device=self.device)
            rows = (steps >= edges[0]) & (steps < edges[1])
            columns = (steps >= edges[2]) & (steps < edges[3])
            inside = rows[:, None, :, None] & columns[:, None, None, :]
            weight = weight * inside.logical_not()
        partner = mixing.partner.to(self.device, non_blocking=True)
        return torch.lerp(images[partner], images, weight)

    def _view(self, images: Tensor, views: Views) -> Tensor:
        """Pad, then take each sample's own window, mirrored where its draw says so."""
        size, padding = images.shape[-1], self.spec.crop_padding
        padded = F.pad(images, (padding,) * 4)
        steps = torch.arange(size, device=self.device)
        rows = views.offset_y.to(self.device, non_blocking=True)[:, None] + steps
        flip = views.flip.to(self.device, non_blocking=True)[:, None]
        columns = torch.where(flip, steps.flip(0), steps)
        columns = columns + views.offset_x.to(self.device, non_blocking=True)[:, None]
        sample = torch.arange(len(images), device=self.device)[:, None, None]
        window = padded[sample, :, rows[:, :, None], columns[:, None, :]]
        return window.permute(0, 3, 1, 2).contiguous()

    def _resized_crop(self, images: Tensor, views: Views) -> Tensor:
        """Each sample's own part, mirrored where its draw says so, resized in one step.

        A resize is linear in rows and in columns: two batched products with each sample's own
        weights do what `interpolate` does for one size at a time.
        """
        assert views.height is not None and views.width is not None
        rows = self._weights(views.offset_y, views.height)
        columns = self._weights(views.offset_x, views.width)
        flip = views.flip.to(self.device, non_blocking=True)[:, None, None]
        columns = torch.where(flip, columns.flip(1), columns)
        count, channels, size, _ = images.shape
        lines = images.permute(0, 2, 1, 3).reshape(count, size, channels * size)
        tall = torch.bmm(rows, lines).reshape(count, self.image_size * channels, size)
        whole = torch.bmm(tall, columns.transpose(1, 2))
        whole = whole.reshape(count, self.image_size, channels, self.image_size)
        return whole.permute(0, 2, 1, 3).contiguous()

    def _weights(self, offset: Tensor, length: Tensor) -> Tensor:
        """(B, image_size, S): what each stored pixel gives to each pixel that is made.

        The antialiased triangle of `interpolate` and PIL (aten/src/ATen/native/cpu/
        UpSampleKernel.cpp), as wide as a made pixel covers stored ones, over the crop alone.
        """
        start = offset.to(self.device, non_blocking=True).float()[:, None, None]
        extent = length.to(self.device, non_blocking=True).float()[:, None, None]
        scale = extent / self.image_size
        made = torch.arange(self.image_size, device=self.device)[None, :, None] + 0.5
        stored = torch.arange(self.spec.source_size, device=self.device)[None, None, :] + 0.5
        distance = (stored - start - made * scale).abs() / scale.clamp(min=1)
        inside = (stored > start) & (stored < start + extent)
        weights = (1 - distance).clamp(min=0) * inside
        return weights / weights.sum(dim=2, keepdim=True)


def _by_channel(values: Sequence[float]) -> Tensor:
    """One value a channel, to be held against images (B, C, S, S)."""
    return torch.tensor(values).reshape(-1, 1, 1)
