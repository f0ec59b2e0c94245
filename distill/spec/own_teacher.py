"""A trained model of the user's own that teaches: in which file it lies, and which model it is.

Understood are a folder that timm exports or a file in it, a stage of a run, and any safetensors
file whose model is named. Reads headers and small JSON files; loads no weights and no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open

from distill.base.errors import UserError, in_short
from distill.base.reading import parsed_json, read_json
from distill.base.whole_path import whole_path
from distill.spec.bounds import MOST_BLOCKS, MOST_CLASSES, MOST_HEADS, MOST_PIXELS, MOST_WIDTH
from distill.spec.candidate import STAGES, ModelSpec, StageName
from distill.spec.frozen import FrozenModel, unsaid
from distill.spec.validated import document_as, read_as

SUFFIX = ".safetensors"
HEADS = ("head.bias", "fc.bias", "classifier.bias", "head.fc.bias")
"""Where timm's models keep one number a class."""

SHAPE_ARGUMENTS = {
    "patch_size": "patch_size",
    "depth": "depth",
    "embed_dim": "width",
    "num_heads": "heads",
}
"""Arguments of timm's constructors, and what they are called here."""

Pixels = Annotated[int, Field(ge=1, le=MOST_PIXELS)]


class OwnTeacher(FrozenModel):
    """The file or folder that holds a teacher, and where that does not say it, its model.

    `name` is a timm name; the shape is for a file alone, as for a stage's `model`.
    """

    weights: str
    name: str | None = Field(default=None, exclude_if=unsaid)
    patch_size: Pixels | None = Field(default=None, exclude_if=unsaid)
    depth: Annotated[int, Field(ge=1, le=MOST_BLOCKS)] | None = Field(
        default=None, exclude_if=unsaid
    )
    width: Annotated[int, Field(ge=1, le=MOST_WIDTH)] | None = Field(
        default=None, exclude_if=unsaid
    )
    heads: Annotated[int, Field(ge=1, le=MOST_HEADS)] | None = Field(
        default=None, exclude_if=unsaid
    )


@dataclass(frozen=True, kw_only=True)
class AskedTeacher:
    """The teacher of a command line, and the stage that it teaches; `all` is the chain's first."""

    own: OwnTeacher
    stage: StageName | Literal["all"]


def asked_teacher(
    weights: str | None, name: str | None, stage: StageName | Literal["all"]
) -> AskedTeacher | None:
    """The teacher in `[STAGE=]FILE`, by default of `stage`; `UserError` for a name without it."""
    if weights is None:
        if name is not None:
            raise UserError(f"--teacher-model {name} needs the weights: --teacher-weights FILE.")
        return None
    before, _, after = weights.partition("=")
    if not weights or (before in STAGES and not after):
        raise UserError(f"--teacher-weights {weights!r} names no file.")
    for known in STAGES:
        if before == known:
            return AskedTeacher(own=OwnTeacher(weights=after, name=name), stage=known)
    return AskedTeacher(own=OwnTeacher(weights=weights, name=name), stage=stage)


class ExportedModel(BaseModel):
    """What is needed of the `config.json` that timm writes; other keys are passed over."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    model_args: dict[str, Any] = {}
    pretrained_cfg: dict[str, Any] = {}
    label_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class _KeptBest(BaseModel):
    """What is needed of a finished stage's result."""

    checkpoint: Annotated[str, Field(pattern=r"^best_[0-9a-z_.]+\.pth$")]


@dataclass(frozen=True, kw_only=True)
class TeacherFile:
    """A teacher that was found: its weights, its model, and the names of its classes if known."""

    weights: Path
    spec: ModelSpec
    classes: tuple[str, ...] | None

    @property
    def title(self) -> str:
        """The model and its file in a few words."""
        return f"{self.spec.title} of {self.weights}"


def find_teacher(own: OwnTeacher, *, classes: int, channels: int, image_size: int) -> TeacherFile:
    """The teacher, if it can answer images of that many classes, channels and pixels.

    Raises `UserError` for a file that is not there, is no weights or does not say of which model
    they are, and for a teacher of other classes, channels or pixels.
    """
    weights, config = _located(whole_path(own.weights))
    heads, names = _header(weights)
    if config is None:
        spec = _named(own, weights, heads or classes, channels, image_size)
    elif config.name == "config.json":
        spec, exported_names = _exported(config, channels, image_size)
        names = names or exported_names
    else:
        spec = _of_a_stage(config)
    if own.name is not None and own.name != spec.name:
        raise UserError(
            f"{config} says that {weights} is {spec.name}, not {own.name}. Leave the name out."
        )
    _check_fits(weights, spec, classes, channels, image_size)
    return TeacherFile(weights=weights, spec=spec, classes=names)


def _located(path: Path) -> tuple[Path, Path | None]:
    """The weights, and the file that says of which model they are, if there is one."""
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise UserError(f"There is no teacher {path}: neither a file nor a folder.")
    if path.suffix == ".pth" and path.with_suffix(SUFFIX).is_file():
        path = path.with_suffix(SUFFIX)  # a run keeps its best weights in both forms
    if path.suffix != SUFFIX:
        raise UserError(f"{path} is not a {SUFFIX} file, the only kind of weights that is read.")
    if path.parent.name == "checkpoints" and (config := _stage_config(path.parent.parent)):
        return path, config
    beside = path.with_name("config.json")
    return path, beside if beside.is_file() else None


def _in_folder(folder: Path) -> tuple[Path, Path]:
    """The same of a folder: timm's export, or a stage of a run."""
    config = folder / "config.json"
    if config.is_file():
        weights = folder / f"model{SUFFIX}"
        if not weights.is_file():
            raise UserError(f"{folder} holds no {weights.name}, the only file that is read of it.")
        return weights, config
    if (folder / "run.json").is_file():
        stages = sorted(str(found.parent) for found in folder.glob("*/result.json"))
        raise UserError(
            f"{folder} is a whole run. Name one of its finished stages: "
            f"{', '.join(stages) or 'there is none yet'}."
        )
    stage = _stage_config(folder)
    if stage is None:
        raise UserError(
            f"{folder} holds no teacher: neither config.json and model{SUFFIX}, as timm exports "
            "them, nor a stage of a run."
        )
    result = folder / "result.json"
    if not result.is_file():
        raise UserError(f"The stage in {folder} is not finished. Go on with distill run.")
    best = read_as(_KeptBest, result).checkpoint
    weights = folder / "checkpoints" / f"{best.removesuffix('.pth')}{SUFFIX}"
    if not weights.is_file():
        raise UserError(f"The best weights of {folder} are gone: there is no {weights}.")
    return weights, stage


def _stage_config(folder: Path) -> Path | None:
    """The file in which a run wrote down what the stage in `folder` is trained with."""
    return next(iter(sorted(folder.glob("logs/*_config.json"))), None)


def _header(weights: Path) -> tuple[int | None, tuple[str, ...] | None]:
    """The number of classes by the head's length, and their names where a run wrote them."""
    try:
        with safe_open(weights, "np") as tensors:
            heads = set(HEADS) & set(tensors.keys())
            counts = [tensors.get_slice(name).get_shape()[0] for name in sorted(heads)]
            names = parsed_json((tensors.metadata() or {}).get("classes", "null"))
    except (OSError, SafetensorError, ValueError, LookupError) as error:
        raise UserError(f"{weights} is no whole safetensors file: {in_short(error)}.") from error
    return next(iter(counts), None), tuple(map(str, names)) if isinstance(names, list) else None


def class_names(weights: Path) -> tuple[str, ...] | None:
    """The names of the classes that a run wrote into its best weights, if it did."""
    return _header(weights)[1]


def _named(
    own: OwnTeacher, weights: Path, classes: int, channels: int, image_size: int
) -> ModelSpec:
    """The model that the user named, in timm's own normalisation."""
    if own.name is None:
        raise UserError(
            f"{weights} does not say which model it is, and no config.json stands beside it. "
            "Name the model: --teacher-model NAME, as timm calls it."
        )
    return ModelSpec(
        name=own.name,
        classes=classes,
        image_size=image_size,
        channels=channels,
        patch_size=own.patch_size,
        depth=own.depth,
        width=own.width,
        heads=own.heads,
    )


def _exported(
    path: Path, channels: int, image_size: int
) -> tuple[ModelSpec, tuple[str, ...] | None]:
    """The model that timm's `config.json` describes, with its normalisation, and its classes."""
    config = document_as(ExportedModel, read_json(path), f"{path} is not as timm exports it")
    arguments = dict(config.model_args)
    size, channels = arguments.pop("img_size", image_size), arguments.pop("in_chans", channels)
    if isinstance(size, list) and size and all(side == size[0] for side in size):
        size = size[0]  # of a square
    arguments.pop("num_classes", None)
    shape = {here: arguments.pop(there, None) for there, here in SHAPE_ARGUMENTS.items()}
    if arguments:
        raise UserError(
            f"{path} builds its model with {', '.join(sorted(arguments))}, which is not understood "
            "here. A teacher may change timm's patch size, depth, width and heads."
        )
    document = {
        "name": config.architecture,
        "classes": config.num_classes,
        "image_size": size,
        "channels": channels,
        "mean": config.pretrained_cfg.get("mean", config.mean),
        "std": config.pretrained_cfg.get("std", config.std),
        **shape,
    }
    return _spec(document, path), config.label_names


def _of_a_stage(path: Path) -> ModelSpec:
    """The model that a run's stage trained."""
    document = read_json(path)
    candidate = document.get("candidate") if isinstance(document, dict) else None
    if not isinstance(candidate, dict) or "student" not in candidate:
        raise UserError(f"{path} does not say which model its stage trained.")
    return _spec(candidate["student"], path)


def _spec(document: Any, path: Path) -> ModelSpec:
    """The model in a document, within the bounds of a recipe's."""
    subject = f"{path} does not describe a model"
    spec = document_as(ModelSpec, document, subject)
    shape = {name: getattr(spec, name) for name in SHAPE_ARGUMENTS.values()}
    document_as(OwnTeacher, {"weights": str(path), "name": spec.name, **shape}, subject)
    if (spec.mean, spec.std) != (None, None) and not (spec.mean and spec.std):
        raise UserError(f"{path} gives one of mean and std, or an empty one. It needs both.")
    return spec


def _check_fits(
    weights: Path, spec: ModelSpec, classes: int, channels: int, image_size: int
) -> None:
    """Refuse a teacher that can't answer the images of the data."""
    if spec.classes != classes:
        raise UserError(
            f"Teacher {weights} tells {spec.classes} classes apart, the data has {classes}. "
            "Choose a teacher that was trained on the same classes."
        )
    if spec.channels != channels:
        raise UserError(
            f"Teacher {weights} takes images of {spec.channels} channel(s), the data has "
            f"{channels}. Choose a teacher that was trained on such images."
        )
    if spec.image_size != image_size:
        raise UserError(
            f"Teacher {weights} takes images of {spec.image_size} px, the recipe makes them "
            f"{image_size} px. Change image_size in the recipe, or choose another teacher."
        )
