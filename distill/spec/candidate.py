"""A candidate: the values of a training that change its memory or speed, and no others.

These values are frozen and hashable; they key trials, predictions and the choices of a
profile. They hold no learning rate, no path and no seed, because those cost no byte.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1), Le(2**31)]
"""What a file may say of a number of things: at least one. Values made here are not checked."""

Precision = Literal["fp32", "fp16", "bf16"]
StageName = Literal["teacher", "assistant", "student"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "step"]
Criterion = Literal["accuracy", "auc", "f1", "loss"]
Balance = Literal["weights", "sampling"]
SoftLoss = Literal["kl", "logit_std"]
Implementation = Literal["fused", "foreach", "plain"]
TeacherMode = Literal["online", "cached"]
Allocator = Literal["expandable", "native"]
Checkpointing = Annotated[int, Ge(0), Le(2**31)] | Literal["cheap"]
"""Blocks that run again in backward: none (0), every k-th, or of each only what is cheap."""

LogitsPass = Literal[TeacherMode, "caching"]
"""Where a stage's teacher is: in the step; gone, its logits read; alone, its logits written."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A timm model by name, with the shape it is built in. `None` keeps timm's own value.

    `mean` and `std` are its normalisation, one value a channel of images between 0 and 1.
    """

    name: str
    classes: Count
    image_size: Count
    channels: Count = 3
    patch_size: Count | None = None
    depth: Count | None = None
    width: Count | None = None
    heads: Count | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Gt(0)], ...] | None = None

    @property
    def title(self) -> str:
        """The name, and the shape where it is not timm's own."""
        words = {"patch": self.patch_size, "deep": self.depth, "wide": self.width}
        shape = ", ".join(f"{value} {word}" for word, value in words.items() if value is not None)
        return f"{self.name} ({shape})" if shape else self.name


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The images as they lie in memory, and their way to the model on the device.

    Images are square, `source_size` pixels wide, uint8; they are padded and cropped there
    (`crop_padding` pixels), flipped, and resized to the model's size. With `crop_scale` a random
    part of at least that share of the area is resized instead. With `multi_label` an image has a
    0 or 1 for each class and not one class. With `mixup` or `cutmix`, the parameter of the beta
    distribution of the shares, each image is mixed with another of its micro-batch, in one way or
    either, when it is `mixed_size` pixels wide: the model's size.
    """

    source_size: Count
    crop_padding: Annotated[int, Ge(0), Le(2**31)] = 0
    flip: bool = False
    crop_scale: Annotated[float, Gt(0), Le(1)] | None = None
    multi_label: bool = False
    mixup: Annotated[float, Gt(0)] | None = None
    cutmix: Annotated[float, Gt(0)] | None = None
    mixed_size: Count | None = None

    @property
    def moves(self) -> bool:
        """True if an image is seen in another place or mirrored in training."""
        return bool(self.crop_padding or self.flip or self.crop_scale is not None)

    @property
    def mixes(self) -> bool:
        """True if images are mixed with others in training."""
        return self.mixup is not None or self.cutmix is not None

    @property
    def unmixed(self) -> "InputSpec":
        """The same images, each by itself."""
        return replace(self, mixup=None, cutmix=None, mixed_size=None)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One configuration of one stage: `micro_batch` images at a time, `accumulation` times.

    `evaluation_batch` is how many images are evaluated at a time, `None` as many as are trained.
    `images_per_epoch` says how large an epoch's last batch is; `None` is not known. With
    `class_weights` the loss holds a weight for each class on the device. `patch_drop_rate` is the
    share of patches that the student does not see in training. `label_smoothing` and `layer_decay`
    tell that the recipe uses them, `soft_loss` how the student is held against its teacher.
    `teacher_logits` says where the teacher's logits come from; "caching" trains nothing, it is the
    pass that makes them.
    """

    stage: StageName
    student: ModelSpec
    teacher: ModelSpec | None
    input: InputSpec
    micro_batch: Count
    accumulation: Count = 1
    precision: Precision = "fp16"
    checkpointing: Checkpointing = 0
    optimizer: Optimizer = "adamw"
    implementation: Implementation = "fused"
    clip_norm: bool = False
    deterministic: bool = False
    evaluation_batch: Count | None = None
    images_per_epoch: Count | None = None
    class_weights: bool = False
    patch_drop_rate: Annotated[float, Ge(0), Lt(1)] = 0.0
    label_smoothing: bool = False
    layer_decay: bool = False
    soft_loss: SoftLoss = "kl"
    teacher_logits: LogitsPass = "online"

    @property
    def online_teacher(self) -> ModelSpec | None:
        """The teacher that stands beside the student in every step, if one does."""
        return self.teacher if self.teacher_logits == "online" else None

    @property
    def effective_batch(self) -> int:
        """Images per optimizer update, if the last micro-batch of an update is a full one."""
        return self.micro_batch * self.accumulation

    @property
    def images_evaluated_at_once(self) -> int:
        """The evaluation batch, as many as are trained at a time unless it is given."""
        return self.evaluation_batch or self.micro_batch

    @property
    def label(self) -> str:
        """Precision and checkpointing in a few letters: `fp16+ckpt`, `+cached` with no teacher."""
        k = self.checkpointing
        again = {0: "", "cheap": "+cheap", 1: "+ckpt"}.get(k, f"+ckpt/{k}")
        cached = "" if self.teacher_logits == "online" else f"+{self.teacher_logits}"
        return self.precision + again + cached

    @property
    def checkpointing_order(self) -> int:
        """A number to sort by: none, cheap, every block, every k-th."""
        return 1 if self.checkpointing == "cheap" else 2 * self.checkpointing

    def same_family(self, other: "Candidate") -> bool:
        """True if the two differ in nothing but the batch."""
        return replace(self, micro_batch=1, accumulation=1) == replace(
            other, micro_batch=1, accumulation=1
        )

    def with_batch(self, micro_batch: int, effective_batch: int) -> "Candidate":
        """The same configuration in micro-batches of `micro_batch` images.

        An update takes as many of them as reach `effective_batch`; the last may be smaller.
        """
        accumulation = -(-effective_batch // micro_batch)
        return replace(
            self, micro_batch=micro_batch, accumulation=accumulation, evaluation_batch=None
        )

    def caching(self) -> "Candidate":
        """The pass that caches the teacher's logits, as many images at a time as are trained.

        What the pass has no use for is as it is by default, so that equal passes are equal.
        """
        return Candidate(
            stage=self.stage,
            student=self.student,
            teacher=self.teacher,
            input=self.input,
            micro_batch=self.micro_batch,
            precision=self.precision,
            deterministic=self.deterministic,
            teacher_logits="caching",
        )


LATER_KEYS: dict[type, tuple[str, ...]] = {
    ModelSpec: ("mean", "std"),
    InputSpec: ("mixup", "cutmix", "mixed_size"),
    Candidate: (
        "class_weights",
        "patch_drop_rate",
        "label_smoothing",
        "layer_decay",
        "soft_loss",
        "teacher_logits",
    ),
}
"""Keys that came after the first profiles were written."""


def written_candidate(candidate: Candidate) -> dict[str, Any]:
    """The candidate for a file: keys that came later only where they are used, as old files are."""
    document = asdict(candidate)
    parts = [(Candidate, document), (InputSpec, document["input"])]
    parts += [(ModelSpec, document[name]) for name in ("student", "teacher") if document[name]]
    for kind, part in parts:
        defaults = {field.name: field.default for field in fields(kind)}
        for key in LATER_KEYS[kind]:
            if part[key] == defaults[key]:
                del part[key]
    return document
