"""Other data, models and pixels than a recipe's, as `distill run` and `bench probe` take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean
from distill.spec.candidate import STAGES, StageName
from distill.spec.image_source import whole_name
from distill.spec.recipe import Model, Recipe, checked


@dataclass(frozen=True, kw_only=True)
class OwnWork:
    """What takes the place of a recipe's own: a data set, timm names by stage, pixels.

    `None`, and a stage that is not named, leave what the recipe says.
    """

    dataset: str | None = None
    models: Mapping[StageName, str] = field(default_factory=dict)
    image_size: int | None = None

    def chooses_pixels(self, recipe: Recipe) -> bool:
        """True if the pixels were chosen for the images: here, or in a recipe that names them."""
        if self.image_size is not None:
            return True
        asked = None if self.dataset is None else whole_name(self.dataset)
        return ":" not in recipe.name and asked in (None, whole_name(recipe.dataset))


def asked_models(
    texts: Sequence[str], stage: StageName | Literal["all"] = "all"
) -> dict[StageName, str]:
    """The models in `[STAGE=]NAME`, without STAGE that of `stage`.

    Raises `UserError` for a stage that is none, is not said, or is named twice.
    """
    found: dict[StageName, str] = {}
    for text in texts:
        before, equals, after = text.partition("=")
        name = after if equals else before
        asked = next((one for one in STAGES if one == before), None) if equals else None
        if equals and asked is None:
            near = did_you_mean(before, STAGES)
            raise UserError(f"--model {text}: {before!r} is no stage.{near} {_stages()}")
        if asked is None and stage != "all":
            asked = stage
        if asked is None:
            raise UserError(
                f"--model {text} does not say for which stage. Write STAGE={text}. {_stages()}"
            )
        if not name:
            raise UserError(f"--model {text} names no model: {asked}=NAME, by timm name.")
        if asked in found:
            raise UserError(f"--model names the {asked} twice: {found[asked]} and {name}.")
        found[asked] = name
    return found


def with_own_work(recipe: Recipe, work: OwnWork) -> Recipe:
    """The recipe with other work; a model that is named is built in timm's own shape.

    A folder of images is named by its whole path, so that it is known from anywhere. Raises
    `UserError` for a stage that the recipe has not, and values that can't be.
    """
    for stage in work.models:
        recipe.stage_named(stage)
    update = {
        "dataset": whole_name(recipe.dataset if work.dataset is None else work.dataset),
        "image_size": work.image_size or recipe.image_size,
        "stage": tuple(
            stage.model_copy(update={"model": Model.model_construct(name=work.models[stage.name])})
            if stage.name in work.models
            else stage
            for stage in recipe.stage
        ),
    }
    return checked(recipe.model_copy(update=update).model_dump_json(), recipe.name)


def named_for_data(recipe: Recipe, work: OwnWork) -> Recipe:
    """The same, named NAME:DATASET where it is on other data, as one that is asked for so."""
    found = with_own_work(recipe, work)
    if work.dataset is None or found.dataset == recipe.dataset:
        return found
    name = recipe.name.partition(":")[0]
    return found.model_copy(update={"name": f"{name}:{found.dataset}"})


def rest_told(recipe: Recipe) -> list[str]:
    """The stages whose patches leave a rest of the image that they do not see, a sentence each."""
    rests = {
        stage.name: (stage.model.patch_size, recipe.image_size % stage.model.patch_size)
        for stage in recipe.stage
        if stage.model.patch_size is not None
    }
    return [
        f"Note: patches of {patch} pixels leave {rest} of {recipe.image_size} out of what the "
        f"{name} sees. A multiple of {patch} leaves none: --image-size."
        for name, (patch, rest) in rests.items()
        if rest
    ]


def _stages() -> str:
    return f"Stages: {', '.join(STAGES)}."
