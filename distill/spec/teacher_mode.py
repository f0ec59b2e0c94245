"""Where the teachers of a run are: as the command line asks, or as a profile chose. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from distill.base.errors import UserError
from distill.spec.candidate import StageName, TeacherMode
from distill.spec.profile import Profile
from distill.spec.recipe import Recipe, Stage


@dataclass(frozen=True, kw_only=True)
class AskedMode:
    """A teacher in the step or cached; `views` of each image, `None` as many as by default."""

    mode: TeacherMode
    views: int | None = None


def with_asked_mode(
    recipe: Recipe, profile: Profile | None, mode: TeacherMode | None, views: int | None
) -> Recipe:
    """The recipe with its teachers where the profile has them, and before it the command line.

    Raises `UserError` where there is no teacher to cache.
    """
    recipe = with_modes(recipe, profile_modes(profile))
    return with_modes(recipe, asked_modes(recipe, mode, views))


def profile_modes(profile: Profile | None) -> dict[StageName, AskedMode]:
    """Where the teachers are of the stages that a profile has a choice for."""
    choices = () if profile is None else profile.choices
    return {
        choice.stage: AskedMode(mode="cached", views=choice.teacher_views)
        if choice.candidate.teacher_logits == "cached"
        else AskedMode(mode="online")
        for choice in choices
    }


def asked_modes(
    recipe: Recipe, mode: TeacherMode | None, views: int | None
) -> dict[StageName, AskedMode]:
    """What a command line asks for, of every stage that is taught; nothing where it asks nothing.

    More or fewer views may be asked for alone where the recipe's or profile's teacher is cached.
    Raises `UserError` where there is no teacher to cache.
    """
    if mode is None and views is None:
        return {}
    taught = [stage for stage in recipe.stage if is_taught(stage)]
    if mode == "cached" and not taught:
        raise UserError(f"Recipe {recipe.name} has no stage that is taught: no teacher to cache.")
    found: dict[StageName, AskedMode] = {}
    for stage in taught:
        before = recipe.training_of(stage.name)
        now = mode or before.teacher or "online"
        if views is not None and now == "online":
            raise UserError(
                f"--teacher-views says how many views of an image are cached, and the teacher of "
                f"stage {stage.name} is online. Give --teacher cached with it."
            )
        kept = before.teacher_views if before.teacher == now else None
        found[stage.name] = AskedMode(mode=now, views=views or kept)
    return found


def with_modes(recipe: Recipe, asked: Mapping[StageName, AskedMode]) -> Recipe:
    """The recipe with its stages' teachers where they are asked to be.

    An online teacher is not written down, as in a recipe that says nothing of it.
    """
    return recipe.model_copy(
        update={
            "stage": tuple(
                _with_mode(recipe, stage, asked[stage.name]) if stage.name in asked else stage
                for stage in recipe.stage
            )
        }
    )


def is_taught(stage: Stage) -> bool:
    """True if something teaches the stage."""
    return stage.taught_by is not None or stage.own_teacher is not None


def _with_mode(recipe: Recipe, stage: Stage, asked: AskedMode) -> Stage:
    before = recipe.training_of(stage.name)
    if (before.teacher or "online", before.teacher_views) == (asked.mode, asked.views):
        return stage
    said = {"teacher": asked.mode, "teacher_views": asked.views}
    whole = {name: getattr(recipe.training, name) for name in said}
    rest = {name: value for name, value in stage.training.items() if name not in said}
    return stage.model_copy(update={"training": rest | _differing(said, whole)})


def _differing(said: Mapping[str, object], whole: Mapping[str, object]) -> dict[str, object]:
    """The values that a stage has to say for itself."""
    plain = {"teacher": "online", "teacher_views": None}
    return {
        name: value
        for name, value in said.items()
        if value != (plain[name] if whole[name] is None else whole[name])
    }
