"""What is known of a model, as values: its size, and its memory and speed in each configuration."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from distill.spec.candidate import Candidate, Checkpointing, ModelSpec, Precision
from distill.spec.file_values import Bytes
from distill.train.run_folder import SHORT_NAMES

ModelKind = Literal["CNN", "ViT", "CNN and attention", "other"]

FULL_NAMES = {short: name for name, short in SHORT_NAMES.items()}
"""The short names that are understood, and timm's."""


@dataclass(frozen=True, kw_only=True)
class CellFigures:
    """One configuration, predicted. `refused` says why it can't be; then all else is `None`.

    `needed_bytes` have to be there for the run to go through (`Prediction.safe_bytes`); of them
    `bound_bytes` are a bound for cuDNN. `largest_batch` is known only of the cell that it was
    looked for with.
    """

    candidate: Candidate
    reserved_bytes: Bytes | None = None
    needed_bytes: Bytes | None = None
    bound_bytes: Bytes | None = None
    images_per_second: Annotated[float, Ge(1e-9), Le(1e12)] | None = None
    largest_batch: Annotated[int, Ge(0)] | None = None
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """A model: what kind it is, the numbers that it learns, and its configurations."""

    kind: ModelKind
    parameters: Annotated[int, Ge(1)]
    cells: tuple[CellFigures, ...]

    @property
    def model(self) -> ModelSpec:
        """The model and its shape."""
        return self.cells[0].candidate.student

    @property
    def name(self) -> str:
        """The name that tables have: the short one where there is one."""
        return short_title(self.model)

    def cell(self, precision: Precision, checkpointing: Checkpointing) -> CellFigures | None:
        """The configuration, unless it was not asked for or can't be."""
        for cell in self.cells:
            candidate = cell.candidate
            if (candidate.precision, candidate.checkpointing) == (precision, checkpointing):
                return cell if cell.refused is None else None
        return None


def short_title(model: ModelSpec) -> str:
    """A model's title with its short name, where it has one."""
    return model.title.replace(model.name, SHORT_NAMES.get(model.name, model.name), 1)
