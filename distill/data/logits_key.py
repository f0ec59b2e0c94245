"""The key of cached logits: everything that a teacher's answers depend on. Touches no file."""

from typing import Any

import numpy as np

from distill.spec.candidate import Count, InputSpec, Precision
from distill.spec.frozen import FrozenModel

SCHEMA = 1

DTYPES: dict[Precision, "np.dtype[Any]"] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(np.int16),
}
"""What the numbers of a precision lie in; NumPy has no bf16."""

Values = tuple[float, ...]


class LogitsKey(FrozenModel):
    """All that logits depend on: equal keys, equal logits.

    `teacher` and `data` are hashes; `input` and `seed` say which views there are, the
    normalisations (mean, std) how the images come to the teacher.
    """

    schema_version: int = SCHEMA
    teacher: str
    model: str
    data: str
    images: Count
    classes: Count
    views: Count
    seed: int
    input: InputSpec
    image_size: Count
    normalisation: tuple[Values, Values]
    teacher_normalisation: tuple[Values, Values]
    precision: Precision

    @property
    def shape(self) -> tuple[int, int, int]:
        """Draws, images, classes."""
        return self.views, self.images, self.classes

    @property
    def size_bytes(self) -> int:
        """Bytes of the logits."""
        return self.views * self.images * self.classes * DTYPES[self.precision].itemsize
