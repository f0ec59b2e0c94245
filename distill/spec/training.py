"""How a recipe trains: length and pace, random views, the loss. Values of a file, checked."""

from typing import Annotated

from pydantic import Field, model_validator

from distill.spec.bounds import (
    MOST_CLIP_NORM,
    MOST_EPOCHS,
    MOST_LEARNING_RATE,
    MOST_PIXELS,
    MOST_TEACHER_VIEWS,
    MOST_UPDATE_IMAGES,
    MOST_WEIGHT_DECAY,
)
from distill.spec.candidate import Balance, Criterion, Optimizer, Schedule, TeacherMode
from distill.spec.frozen import FrozenModel, unsaid

DEFAULT_TEACHER_VIEWS = 8
"""Of 100 epochs 92 are then free of the teacher, and no view comes more often than every eighth."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
TeacherViews = Annotated[int, Field(ge=1, le=MOST_TEACHER_VIEWS)]


class TrainingValues(FrozenModel):
    """Length and pace of the training, as the file says them.

    `epochs` may be left out: 100 from pretrained weights, 200 from scratch. `effective_batch` is
    images per update, whatever the memory. The step schedule multiplies the learning rate by
    `step_factor` every `step_epochs` epochs, without which: at each third of the training.
    `criterion` is the score on the validation images by which the best epoch is kept, by default
    the task's own; `patience` ends the training after that many epochs without a better one.
    `balance` lets rare classes count as much as frequent ones: with weights in the loss of the
    labels, or by drawing their images more often. `teacher` says where the teacher of a stage that
    is taught is: `online`, beside it in every step, or `cached`, gone once its logits for
    `teacher_views` views of each image are kept, which the epochs then take in turn.
    """

    epochs: Epochs | None = None
    effective_batch: Annotated[int, Field(ge=1, le=MOST_UPDATE_IMAGES)]
    learning_rate: Annotated[float, Field(gt=0, le=MOST_LEARNING_RATE, allow_inf_nan=False)]
    optimizer: Optimizer = "adamw"
    weight_decay: Annotated[float, Field(ge=0, le=MOST_WEIGHT_DECAY, allow_inf_nan=False)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0, le=MOST_EPOCHS, allow_inf_nan=False)] = 0
    clip_norm: Annotated[float, Field(gt=0, le=MOST_CLIP_NORM, allow_inf_nan=False)] | None = None
    schedule: Schedule = "cosine"
    step_epochs: Epochs | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    criterion: Criterion | None = Field(default=None, exclude_if=unsaid)
    patience: Epochs | None = Field(default=None, exclude_if=unsaid)
    balance: Balance | None = Field(default=None, exclude_if=unsaid)
    teacher: TeacherMode | None = Field(default=None, exclude_if=unsaid)
    teacher_views: TeacherViews | None = Field(default=None, exclude_if=unsaid)


class Training(TrainingValues):
    """The same with the number of epochs known."""

    epochs: Epochs

    @property
    def cached_views(self) -> int:
        """Views of each image that a cached teacher sees: no more than there are epochs."""
        return min(self.teacher_views or DEFAULT_TEACHER_VIEWS, self.epochs)


class Augmentation(FrozenModel):
    """Random views, drawn per sample from (seed, epoch, sample id).

    Either `crop_padding` (pixels of the stored image: pad, then a window of the image's size) or
    `crop_scale` (a part of at least that share of the area, resized to the model's size).
    """

    crop_padding: Annotated[int, Field(ge=0, le=MOST_PIXELS)] = 0
    crop_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    flip: bool = False

    @model_validator(mode="after")
    def _one_crop(self) -> "Augmentation":
        if self.crop_padding and self.crop_scale is not None:
            raise ValueError("crop_padding and crop_scale exclude each other")
        return self


class Distillation(FrozenModel):
    """Hinton, Vinyals, Dean 2015: alpha · T² · KL(teacher ‖ student at T) + (1 − alpha) · CE."""

    temperature: Annotated[float, Field(ge=0.01, le=1000)] = 4.0
    alpha: Fraction = 0.7
