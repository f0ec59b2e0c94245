"""A recipe: one documented TOML file that says what is trained, from what, and how long.

Reads and checks; it never fills in what the file leaves open beyond the defaults stated here,
and it knows nothing of cards, budgets or memory (those are the profile's).
"""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean
from distill.base.reading import MOST_TOML_BYTES, parsed_json, parsed_toml, read_text
from distill.spec.bounds import (
    MOST_BLOCKS,
    MOST_HEADS,
    MOST_LETTERS,
    MOST_PATH_LETTERS,
    MOST_PIXELS,
    MOST_WIDTH,
)
from distill.spec.candidate import Candidate, InputSpec, ModelSpec, StageName, TeacherMode
from distill.spec.catalog import DatasetInfo, dataset_info
from distill.spec.frozen import FrozenModel, unsaid
from distill.spec.image_source import safe_name, whole_name
from distill.spec.own_teacher import OwnTeacher, TeacherFile, find_teacher
from distill.spec.recipe_problems import dataset_problems, refusal, stage_problems
from distill.spec.training import (
    Augmentation,
    Distillation,
    Training,
    TrainingValues,
    check_losses,
)
from distill.spec.validated import all_problems

Pixels = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Name = Annotated[str, Field(max_length=MOST_LETTERS)]


def _with_short_name(name: str) -> str:
    """A recipe's name, whose part before `:DATASET` files are named for."""
    if len(name.partition(":")[0]) > MOST_LETTERS:
        raise ValueError(f"a name has at most {MOST_LETTERS} characters")
    return name


RecipeName = Annotated[
    str, Field(max_length=MOST_LETTERS + MOST_PATH_LETTERS), AfterValidator(_with_short_name)
]

PRETRAINED_EPOCHS, SCRATCH_EPOCHS = 100, 200


class Model(FrozenModel):
    """A timm name, with overrides of its shape."""

    name: Name
    patch_size: Pixels | None = None
    depth: Annotated[int, Field(ge=1, le=MOST_BLOCKS)] | None = None
    width: Annotated[int, Field(ge=1, le=MOST_WIDTH)] | None = None
    heads: Annotated[int, Field(ge=1, le=MOST_HEADS)] | None = None


class Stage(FrozenModel):
    """One model to train, and what teaches it, if anything does.

    That is the best checkpoint of an earlier stage, or a trained model of the user's own.
    """

    name: StageName
    model: Model
    taught_by: StageName | None = None
    own_teacher: OwnTeacher | None = Field(default=None, exclude_if=unsaid)
    training: dict[str, Any] = Field(default_factory=dict)


class Recipe(FrozenModel):
    """A whole chain. `stage` keeps the order of the file.

    With `skip_unreadable` images of the user's own that can't be read are left out, not refused.
    """

    name: RecipeName
    about: str
    dataset: str
    image_size: Pixels
    pretrained: bool
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    skip_unreadable: bool = Field(default=False, exclude_if=unsaid)
    training: TrainingValues
    augmentation: Augmentation = Augmentation()
    distillation: Distillation = Distillation()
    stage: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @property
    def file_name(self) -> str:
        """The name as a part of a file's name."""
        name, colon, dataset = self.name.partition(":")
        return f"{name}-{safe_name(dataset)}" if colon else name

    def stage_named(self, name: StageName) -> Stage:
        """The stage of that name; `UserError` when the recipe has none."""
        for stage in self.stage:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stage)
        near = did_you_mean(name, [stage.name for stage in self.stage])
        raise UserError(f"Recipe {self.name} has no stage {name}.{near} It has: {known}.")

    def training_of(self, name: StageName) -> Training:
        """The recipe's training values with that stage's own laid over them."""
        merged = self.training.model_dump() | self.stage_named(name).training
        if merged["epochs"] is None:
            merged["epochs"] = PRETRAINED_EPOCHS if self.pretrained else SCRATCH_EPOCHS
        return Training.model_validate(merged, strict=True)

    def dataset_info(self) -> DatasetInfo:
        """Classes, channels and pixels of the data, without loading it."""
        return dataset_info(self.dataset, self.image_size)

    def model_of(self, name: StageName) -> ModelSpec:
        """The stage's model in the shape that this recipe's data asks for."""
        model, info = self.stage_named(name).model, self.dataset_info()
        return ModelSpec(
            name=model.name,
            classes=info.classes,
            image_size=self.image_size,
            channels=info.channels,
            patch_size=model.patch_size,
            depth=model.depth,
            width=model.width,
            heads=model.heads,
        )

    def own_teacher_of(self, name: StageName) -> TeacherFile | None:
        """The trained model of the user's own that teaches the stage, looked at on the disk."""
        own, info = self.stage_named(name).own_teacher, self.dataset_info()
        if own is None:
            return None
        return find_teacher(
            own, classes=info.classes, channels=info.channels, image_size=self.image_size
        )

    def teacher_of(self, name: StageName) -> ModelSpec | None:
        """The model that teaches the stage, if one does."""
        taught_by = self.stage_named(name).taught_by
        if taught_by is not None:
            return self.model_of(taught_by)
        own = self.own_teacher_of(name)
        return None if own is None else own.spec

    def candidate(self, name: StageName, *, micro_batch: int | None = None) -> Candidate:
        """The stage as a candidate: fp32, nothing checkpointed, until a profile says otherwise."""
        training, info = self.training_of(name), self.dataset_info()
        teacher = self.teacher_of(name)
        check_losses(training, self.distillation, info, taught=teacher is not None)
        whole = Candidate(
            stage=name,
            student=self.model_of(name),
            teacher=teacher,
            input=self._input(info),
            micro_batch=training.effective_batch,
            precision="fp32",
            optimizer=training.optimizer,
            clip_norm=training.clip_norm is not None,
            images_per_epoch=info.train_images,
            class_weights=training.balance == "weights",
            patch_drop_rate=training.patch_drop_rate or 0.0,
            label_smoothing=bool(training.label_smoothing),
            layer_decay=training.layer_decay is not None,
            soft_loss=self.distillation.loss or "kl",
            teacher_logits=self._teacher_mode(name, training),
        )
        return whole.with_batch(micro_batch or training.effective_batch, training.effective_batch)

    def _input(self, info: DatasetInfo) -> InputSpec:
        """The images as they lie in memory, and what becomes of them."""
        views = self.augmentation
        mixes = bool(views.mixup or views.cutmix)
        return InputSpec(
            source_size=info.source_size,
            crop_padding=views.crop_padding,
            flip=views.flip,
            crop_scale=views.crop_scale,
            multi_label=info.task == "multi-label",
            mixup=views.mixup or None,
            cutmix=views.cutmix or None,
            mixed_size=self.image_size if mixes else None,
        )

    def _teacher_mode(self, name: StageName, training: Training) -> TeacherMode:
        """Where the stage's teacher is; a stage that nothing teaches has none to cache.

        Raises `UserError` for views that can't be told by image and number.
        """
        stage = self.stage_named(name)
        if training.teacher != "cached":
            if training.teacher_views is not None:
                raise UserError(
                    "--teacher-views says how many views a cached teacher sees. "
                    "Give --teacher cached with it."
                )
            return "online"
        if stage.taught_by is None and stage.own_teacher is None:
            return "online"
        self.check_cacheable(name)
        return "cached"

    def check_cacheable(self, name: StageName) -> None:
        """Refuse, as a `UserError`, views of an image that its number and a draw's do not tell."""
        if self.training_of(name).balance == "sampling":
            raise UserError(
                f"Stage {name}: --balance sampling shows an image in a new way each time that it "
                "comes, which cached logits do not know. Use --balance weights, or "
                "--teacher online."
            )
        if self.augmentation.mixup or self.augmentation.cutmix:
            raise UserError(
                f"Stage {name}: --mixup and --cutmix mix other images in every epoch, which cached "
                "logits do not know. Leave them out, or use --teacher online."
            )

    def digest(self) -> str:
        """A hash of every value but the place of a teacher's file: equal recipes, equal runs."""
        place = {"stage": {"__all__": {"own_teacher": {"weights"}}}}
        return hashlib.sha256(self.model_dump_json(exclude=place).encode()).hexdigest()[:16]


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("distill.spec") / "recipes"
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name, on other data with NAME:DATASET, or from a TOML or JSON file.

    Raises `UserError` for an unknown name, a file that can't be read, and with all of them for
    missing, unknown or impossible values, stages whose links do not join, and unknown data.
    """
    name, colon, dataset = name_or_path.partition(":")
    if colon and name in recipe_names():
        on_data = {"name": f"{name}:{whole_name(dataset)}", "dataset": whole_name(dataset)}
        return load_recipe(name).model_copy(update=on_data)
    text = _read(name_or_path)
    parse = parsed_json if name_or_path.endswith(".json") else parsed_toml
    try:
        document = parse(text)
    except ValueError as error:
        raise UserError(f"Recipe {name_or_path} {error}.") from error
    unknown = dataset_problems(document)
    return checked(json.dumps(document, default=str), name_or_path, unknown)


def checked(document: str, name: str, others: Sequence[str] = ()) -> Recipe:
    """The recipe in a JSON document, nothing in it turned into another type.

    Raises `UserError`, in which it is called `name`, for values that are not possible, with all of
    them and the `others`.
    """
    recipe, problems = None, []
    try:
        recipe = Recipe.model_validate_json(document, strict=True)
    except ValidationError as error:
        problems = all_problems(error, Recipe)
    problems += [*stage_problems(json.loads(document)), *others]
    if recipe is None or problems:
        raise refusal(name, problems)
    return recipe


def _read(name_or_path: str) -> str:
    path = Path(name_or_path)
    if path.suffix in (".toml", ".json"):
        return read_text(path, "recipe", most_bytes=MOST_TOML_BYTES)
    if name_or_path not in recipe_names():
        raise UserError(
            f"Unknown recipe {name_or_path!r}.{did_you_mean(name_or_path, recipe_names())} There "
            f"are: {', '.join(recipe_names())}; on other data NAME:DATASET, as "
            "medmnist:pathmnist_64; or name a .toml or .json file (distill init writes one)."
        )
    return (resources.files("distill.spec") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
