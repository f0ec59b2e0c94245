"""A recipe of one's own, made from one that comes along: other images, models, pixels, epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distill.base.errors import UserError
from distill.spec.candidate import StageName
from distill.spec.catalog import dataset_info, is_published, medmnist_name
from distill.spec.image_source import FOLDER_PREFIX, LIST_PREFIX, is_own, whole_name
from distill.spec.recipe import Model, Recipe, Stage, checked, recipe_names
from distill.spec.training import Augmentation, TrainingValues

LEFT_OUT = "none"
"""In the place of a model's name: the chain does without that stage."""

SMALL_MODELS_PIXELS = 64

LEAST_UPDATES_AN_EPOCH, LEAST_EFFECTIVE_BATCH = 10, 8
"""Of few images an update takes fewer, down to eight, so that an epoch is some updates."""

STARTS = {"digits": "demo", "fashion_mnist": "fashion", "cifar100": "cifar100"}
"""Recipes to start from, by data; others start from `cifar10_short`, MedMNIST from `medmnist`."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the new recipe has of its own; `None`, and a stage not named, keep the old one's."""

    name: str
    dataset: str
    image_size: int
    models: Mapping[StageName, str] = field(default_factory=dict)
    pretrained: bool | None = None
    epochs: int | None = None


def as_dataset(name: str) -> str:
    """A data set's name; a folder or a list that is there may be named without its prefix.

    A published set's name is that set, whatever lies here: `./digits` is the folder.
    """
    if not is_own(name) and name.strip() and not is_published(name):
        place = Path(name).expanduser()
        if place.is_dir():
            return whole_name(f"{FOLDER_PREFIX}{place}")
        if place.is_file() and place.suffix.lower() in (".csv", ".tsv"):
            return whole_name(f"{LIST_PREFIX}{place}")
    return whole_name(name)


def start_for(dataset: str, *, pretrained: bool | None = None) -> str:
    """The recipe that is nearest to what such data need."""
    if dataset in STARTS:
        return STARTS[dataset]
    if pretrained is False:
        return "cifar10_scratch"
    is_medical = not is_own(dataset) and medmnist_name(dataset)[0] is not None
    return "medmnist" if is_medical else "cifar10_short"


def pixels_for(start: Recipe, dataset: str, shorter_side: int | None) -> int:
    """The pixels that models as those of `start` may be given of such images.

    Models in timm's own shape get those of the recipe; small ones what the images have, 64 at
    most. `shorter_side` is that of images of the user's own, if it is known.
    """
    if dataset == start.dataset or not _has_own_shapes(start):
        return start.image_size
    if is_own(dataset):
        side = shorter_side or SMALL_MODELS_PIXELS
    else:
        side = dataset_info(dataset, start.image_size).source_size
    return max(8, min(side, SMALL_MODELS_PIXELS) // 4 * 4)


def new_recipe(start: Recipe, wishes: Wishes) -> Recipe:
    """The recipe that was wished for, checked.

    Patches of models with a shape of their own grow with the image, so that there are as many;
    padding grows with the stored image. Raises `UserError` for what can't be.
    """
    for name in wishes.models:
        start.stage_named(name)
    pretrained = start.pretrained if wishes.pretrained is None else wishes.pretrained
    stages = _stages(start, wishes)
    if not stages:
        raise UserError("A recipe needs a stage: not every model can be none.")
    update = {
        "name": wishes.name,
        "about": _about(wishes, stages, pretrained=pretrained),
        "dataset": wishes.dataset,
        "image_size": wishes.image_size,
        "pretrained": pretrained,
        "stage": stages,
    }
    found = start.model_copy(update=update)
    update = {"augmentation": _augmentation(start, found), "training": _training(found, wishes)}
    found = found.model_copy(update=update)
    if pretrained and _has_own_shapes(found):
        raise UserError(
            "ImageNet weights are there for models in timm's own shape, and those of recipe "
            f"{start.name} have another. Name models with --model STAGE=NAME, or use "
            "--no-pretrained."
        )
    found = checked(found.model_dump_json(), wishes.name)
    for stage in found.stage:
        found.candidate(stage.name)
    return found


def own_name(stem: str) -> str:
    """A file's name as a recipe's, which is none of those that come along."""
    name = stem.replace(":", "-")
    return f"own_{name}" if name in recipe_names() else name


def _has_own_shapes(recipe: Recipe) -> bool:
    return any(_has_shape(stage.model) for stage in recipe.stage)


def _has_shape(model: Model) -> bool:
    return (model.patch_size, model.depth, model.width, model.heads) != (None,) * 4


def _stages(start: Recipe, wishes: Wishes) -> tuple[Stage, ...]:
    """The stages that are wanted, each taught by the one that its teacher was taught by if need be.

    Where all epochs were asked for, no stage has its own.
    """
    teacher_of: dict[StageName, StageName | None] = {}
    found = []
    for stage in start.stage:
        name = wishes.models.get(stage.name)
        taught_by = teacher_of.get(stage.taught_by) if stage.taught_by is not None else None
        if name == LEFT_OUT:
            teacher_of[stage.name] = taught_by
            continue
        teacher_of[stage.name] = stage.name
        model = stage.model if name is None else Model.model_construct(name=name)
        training = dict(stage.training)
        if wishes.epochs is not None:
            training.pop("epochs", None)
        if taught_by is None and stage.own_teacher is None:
            training = {k: v for k, v in training.items() if not k.startswith("teacher")}
        found.append(
            stage.model_copy(
                update={
                    "model": _fitted(model, start.image_size, wishes.image_size),
                    "taught_by": taught_by,
                    "training": training,
                }
            )
        )
    return tuple(found)


def _fitted(model: Model, before: int, pixels: int) -> Model:
    """The model with patches that cut the image into about as many as before, with no rest."""
    if model.patch_size is None or pixels == before:
        return model
    across = before / model.patch_size
    sizes = [size for size in range(1, pixels + 1) if pixels % size == 0]
    return model.model_copy(
        update={"patch_size": min(sizes, key=lambda size: (abs(pixels / size - across), size))}
    )


def _training(recipe: Recipe, wishes: Wishes) -> TrainingValues:
    """The epochs, of which a fifth at most warm up, and updates of which an epoch has some."""
    values = recipe.training
    most = recipe.dataset_info().train_images // LEAST_UPDATES_AN_EPOCH
    fewer = max(LEAST_EFFECTIVE_BATCH, 2 ** max(0, most.bit_length() - 1))
    update: dict[str, object] = {"effective_batch": min(values.effective_batch, fewer)}
    if wishes.epochs is not None:
        warmup = min(values.warmup_epochs, wishes.epochs / 5)
        update |= {"epochs": wishes.epochs, "warmup_epochs": warmup}
    return values.model_copy(update=update)


def _augmentation(start: Recipe, found: Recipe) -> Augmentation:
    """The same views, with the padding of images as large as these are stored."""
    views, stored = start.augmentation, found.dataset_info().source_size
    before = start.dataset_info().source_size
    return views.model_copy(update={"crop_padding": round(views.crop_padding * stored / before)})


def _about(wishes: Wishes, stages: tuple[Stage, ...], *, pretrained: bool) -> str:
    models = ", ".join(dict.fromkeys(stage.model.name for stage in stages))
    weights = "ImageNet-pretrained" if pretrained else "from random weights"
    name = Path(wishes.dataset.partition(":")[2]).name if is_own(wishes.dataset) else wishes.dataset
    return f"{name} at {wishes.image_size} px, {models}, {weights}"
