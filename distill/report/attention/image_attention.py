"""What a picture needs of one model and one image: where it looked, and what it answered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from distill.base.errors import UserError
from distill.data.batches import Batch
from distill.report.attention.maps import token_layout, visit_layers
from distill.report.attention.pictures import Image, shown_image
from distill.report.attention.rollout import Rollout
from distill.step.prepare import Prepare


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image that is to be looked at: `pixels` (C, S, S) as the run's images lie in memory."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True, kw_only=True)
class ImageAttention:
    """One image as the model saw it, and how much it looked where.

    `heads` (heads, rows, columns) are those of block `layer`, `rollout` (rows, columns) is over
    all blocks, both in even shares of what goes to patches; `on_patches` (heads,) is how much that
    is. `answer` is the class and its probability in words.
    """

    image: Image
    heads: NDArray[np.float32]
    on_patches: NDArray[np.float32]
    layer: int
    rollout: NDArray[np.float32]
    answer: str


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """A model with what makes images ready for it, both on one device.

    `names` are those of the classes; with `several` an image may have more than one of them, and
    no answer is told.
    """

    model: nn.Module
    prepare: Prepare
    names: Sequence[str]
    several: bool

    @property
    def layers(self) -> int:
        """How many blocks have a map. Raises `UserError` for a model that has none."""
        token_layout(self.model)
        return len(self.model.blocks)  # type: ignore[arg-type]

    def look(self, shown: Shown, layer: int | None = None) -> ImageAttention:
        """Look at one image; the heads are those of `layer`, by default the last one's.

        Of each layer only what is drawn is kept. Raises `UserError` for a model without maps.
        """
        tokens, last = token_layout(self.model), self.layers - 1
        wanted = last if layer is None else layer
        rollout, heads, on_patches = Rollout(), [], []

        def visit(number: int, weights: torch.Tensor) -> None:
            rollout.add(weights)
            if number == wanted:
                heads.append(tokens.seen(weights).numpy())
                on_patches.append(tokens.on_patches(weights).numpy())

        pixels = torch.from_numpy(np.array(shown.pixels[None]))
        batch = Batch(images=pixels, labels=torch.zeros(1, dtype=torch.int64), views=None)
        image = self.prepare(batch)[0]
        logits = visit_layers(self.model, image, visit)
        assert rollout.product is not None
        if not (rollout.product.isfinite().all() and logits.isfinite().all()):
            raise UserError(f"{type(self.model).__name__} computes values that are not finite.")
        return ImageAttention(
            image=shown_image(self._as_it_was(image)),
            heads=heads[0],
            on_patches=on_patches[0],
            layer=wanted,
            rollout=tokens.seen(rollout.product).numpy(),
            answer="" if self.several else self._answer(logits),
        )

    def _as_it_was(self, image: torch.Tensor) -> torch.Tensor:
        """The image without its normalisation, between 0 and 1."""
        return (image * self.prepare.std + self.prepare.mean) / 255

    def _answer(self, logits: torch.Tensor) -> str:
        probabilities = logits.softmax(dim=0)
        best = int(probabilities.argmax())
        return f"answer {self.names[best]} ({100 * float(probabilities[best]):.0f} %)"
