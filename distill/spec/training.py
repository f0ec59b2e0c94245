"""How a recipe trains: length and pace, random views, the loss. Values of a file, checked."""

from typing import Annotated

from pydantic import Field, model_validator

from distill.base.errors import UserError
from distill.spec.bounds import (
    MOST_CLIP_NORM,
    MOST_EPOCHS,
    MOST_LABEL_SMOOTHING,
    MOST_LEARNING_RATE,
    MOST_MIXING,
    MOST_PATCH_DROP_RATE,
    MOST_PIXELS,
    MOST_TEACHER_VIEWS,
    MOST_UPDATE_IMAGES,
    MOST_WEIGHT_DECAY,
)
from distill.spec.candidate import (
    Balance,
    Criterion,
    InputSpec,
    Optimizer,
    Schedule,
    SoftLoss,
    TeacherMode,
)
from distill.spec.catalog import DatasetInfo
from distill.spec.frozen import FrozenModel, unsaid

DEFAULT_TEACHER_VIEWS = 8
"""Of 100 epochs 92 are then free of the teacher, and no view comes more often than every eighth."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Mixing = Annotated[float, Field(ge=0, le=MOST_MIXING)]
TeacherViews = Annotated[int, Field(ge=1, le=MOST_TEACHER_VIEWS)]


class TrainingValues(FrozenModel):
    """Length and pace of the training, as the file says them.

    `epochs` may be left out: 100 from pretrained weights, 200 from scratch. `effective_batch` is
    images per update, whatever the memory. The step schedule multiplies the learning rate by
    `step_factor` every `step_epochs` epochs, without which: at each third of the training.
    `criterion` is the score on the validation images by which the best epoch is kept, by default
    the task's own; `patience` ends the training after that many epochs without a better one.
    `balance` lets rare classes count as much as frequent ones: with weights in the loss of the
    labels, or by drawing their images more often. `label_smoothing` is the share of a label's
    weight that all classes get in equal parts; with `layer_decay` each layer learns slower than the
    one above it by that factor; `patch_drop_rate` of an image's patches are not seen in training.
    `teacher` says where the teacher of a stage that is taught is: `online`, beside it in every
    step, or `cached`, gone once its logits for `teacher_views` views of each image are kept, which
    the epochs then take in turn.
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
    label_smoothing: Annotated[float, Field(ge=0, le=MOST_LABEL_SMOOTHING)] | None = Field(
        default=None, exclude_if=unsaid
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, exclude_if=unsaid)
    patch_drop_rate: Annotated[float, Field(ge=0, le=MOST_PATCH_DROP_RATE)] | None = Field(
        default=None, exclude_if=unsaid
    )
    teacher: TeacherMode | None = Field(default=None, exclude_if=unsaid)
    teacher_views: TeacherViews | None = Field(default=None, exclude_if=unsaid)


class Training(TrainingValues):
    """The same with the number of epochs known."""

    epochs: Epochs

    def cached_views(self, spec: InputSpec) -> int:
        """Views of each image that a cached teacher sees: no more than there are, and are used."""
        if not spec.moves:
            return 1
        return min(self.teacher_views or DEFAULT_TEACHER_VIEWS, self.epochs)


class Augmentation(FrozenModel):
    """Random views, drawn per sample from (seed, epoch, sample id).

    Either `crop_padding` (pixels of the stored image: pad, then a window of the image's size) or
    `crop_scale` (a part of at least that share of the area, resized to the model's size). `mixup`
    and `cutmix` mix each image and its label with another's: pixel by pixel, or a part pasted in;
    with both, either is drawn. The number is the parameter of the shares' beta distribution.
    """

    crop_padding: Annotated[int, Field(ge=0, le=MOST_PIXELS)] = 0
    crop_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    flip: bool = False
    mixup: Mixing | None = Field(default=None, exclude_if=unsaid)
    cutmix: Mixing | None = Field(default=None, exclude_if=unsaid)

    @model_validator(mode="after")
    def _one_crop(self) -> "Augmentation":
        if self.crop_padding and self.crop_scale is not None:
            raise ValueError("crop_padding and crop_scale exclude each other")
        return self


class Distillation(FrozenModel):
    """Hinton, Vinyals, Dean 2015: alpha · T² · KL(teacher ‖ student at T) + (1 − alpha) · CE.

    With `loss` `logit_std` the KL is of standard scores of the logits (Sun et al. 2024).
    """

    temperature: Annotated[float, Field(ge=0.01, le=1000)] = 4.0
    alpha: Fraction = 0.7
    loss: SoftLoss | None = Field(default=None, exclude_if=unsaid)


def check_losses(
    training: Training, distillation: Distillation, data: DatasetInfo, *, taught: bool
) -> None:
    """Refuse, as a `UserError`, what the data's labels have no meaning for."""
    if data.task == "multi-label" and training.balance is not None:
        raise UserError(
            f"{data.name} has images with several labels, which --balance {training.balance} does "
            "not know. Leave it out; --criterion auc is fair to rare classes."
        )
    if data.task == "multi-label" and training.label_smoothing:
        raise UserError(
            f"{data.name} has images with several labels, each a yes or no of its own, which "
            "--label-smoothing does not know. Leave it out."
        )
    if not taught or distillation.loss != "logit_std":
        return
    if data.task == "multi-label":
        raise UserError(
            f"{data.name} has images with several labels, whose logits are compared with 0 and not "
            "with each other, so they have no standard scores. Use --kd-loss kl."
        )
    if data.classes < 3:
        raise UserError(
            f"{data.name} has two classes: the standard scores of two logits are always 1 and -1 "
            "and teach nothing. Use --kd-loss kl."
        )
