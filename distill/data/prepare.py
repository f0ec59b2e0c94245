"""From uint8 on the CPU to what the model eats on the device: view, resize, normalise.

Runs on the device, in batch, and belongs to the step, so that its memory is measured and
predicted with it. Draws nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.candidate import InputSpec
from distill.data.batches import Batch, Views
from distill.models import Normalisation


class Prepare:
    """uint8 (B, C, S, S) → float32 (B, C, image_size, image_size), normalised."""

    def __init__(
        self, spec: InputSpec, image_size: int, normalisation: Normalisation, device: torch.device
    ) -> None:
        self.spec = spec
        self.image_size = image_size
        self.device = device
        shape = (-1, 1, 1)
        self.mean = (torch.tensor(normalisation.mean) * 255).reshape(shape).to(device)
        self.std = (torch.tensor(normalisation.std) * 255).reshape(shape).to(device)

    def __call__(self, batch: Batch) -> Tensor:
        """The batch's images as its views show them."""
        images = batch.images.to(self.device, non_blocking=True)
        if batch.views is not None:
            images = self._view(images, batch.views)
        floats = images.float()
        del images
        if floats.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            floats = F.interpolate(floats, size=size, mode="bilinear", antialias=True)
        return floats.sub_(self.mean).div_(self.std)

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
