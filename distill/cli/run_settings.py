"""The command line of `distill run` as values: recipe, profile, overrides, first weights.

Refuses what can't work while nothing has been loaded or written yet. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.files import check_folder, check_output
from distill.cli.run_options import RunOptions
from distill.data.photo_sizes import shrinking_told
from distill.spec.candidate import STAGES, Checkpointing, Precision, StageName
from distill.spec.own_teacher import asked_teacher
from distill.spec.own_work import OwnWork, asked_models, named_for_data, rest_told
from distill.spec.pins import default_allocator, set_environment
from distill.spec.profile import Profile, read_profile
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe, with_own_teacher
from distill.spec.stage_plan import Overrides, chosen_stages

T = TypeVar("T")
PRECISION_OF: Mapping[bool, Precision] = {True: "fp16", False: "fp32"}
CHECKPOINTING_OF: Mapping[bool, Checkpointing] = {True: 1, False: 0}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The values of a run that are known before torch is loaded.

    `filed_recipe` is as its file says, with the teacher that is named as `bench probe` takes it
    too; `recipe` is as the whole command line changed it.
    """

    profile: Profile | None
    filed_recipe: Recipe
    recipe: Recipe
    overrides: Overrides
    weights: Mapping[StageName, Path]


def settings_of(options: RunOptions) -> RunSettings:
    """Read the files that the command line names, and lay its values over them.

    Raises `UserError` for what contradicts itself, can't be read or can't be written.
    """
    profile, filed_recipe = _profile_and_recipe(options.profile_path, options.recipe_name)
    changes = _changes(options)
    recipe = changed_recipe(filed_recipe, changes, profile)
    settings = RunSettings(
        profile=profile,
        filed_recipe=_filed(with_own_teacher(filed_recipe, changes.teacher), changes, profile),
        recipe=recipe,
        overrides=_overrides(options),
        weights=_weights(recipe, options),
    )
    _check_before_work(recipe, profile, options.stage, options.out)
    _tell_of_other_values(profile, settings.filed_recipe, options.recipe_name)
    shrinking = shrinking_told(recipe, chosen=changes.work.chooses_pixels(filed_recipe))
    for line in (shrinking, *rest_told(recipe)):
        if line is not None:
            say(line)
    if options.json_log is not None:
        check_output(options.json_log)
    return settings


def set_run_environment(settings: RunSettings) -> None:
    """Set the environment that the run's memory depends on, before torch is loaded."""
    profile = settings.profile
    set_environment(
        allocator=default_allocator() if profile is None else profile.allocator,
        deterministic=settings.overrides.deterministic,
    )


def _profile_and_recipe(
    profile_path: Path | None, recipe_name: str | None
) -> tuple[Profile | None, Recipe]:
    """The profile, if one is named, and the recipe: the one named, else the profile's."""
    profile = None if profile_path is None else read_profile(profile_path)
    if profile is None:
        return None, load_recipe(recipe_name or "cifar10")
    return profile, load_recipe(recipe_name or profile.recipe_name())


def _filed(recipe: Recipe, changes: RecipeChanges, profile: Profile | None) -> Recipe:
    """The recipe as the profile was made for it: with other work where its probe had that too."""
    asked = named_for_data(recipe, changes.work)
    is_made_for = profile is not None and profile.recipe.digest == asked.digest()
    return asked if is_made_for else recipe


def _tell_of_other_values(profile: Profile | None, recipe: Recipe, asked: str | None) -> None:
    """Say so where a recipe that was found by a profile's name is not the one it was made for."""
    if profile is None or asked is not None or profile.recipe.digest == recipe.digest():
        return
    say(
        f"Note: profile {profile.name} was made for a recipe {recipe.name} with other values than "
        "the one that comes along. If that is a file of yours, name it: --recipe FILE."
    )


def _changes(options: RunOptions) -> RecipeChanges:
    return RecipeChanges(
        work=OwnWork(
            dataset=options.dataset,
            models=asked_models(options.model, options.stage),
            image_size=options.image_size,
        ),
        pretrained=True if options.weights and options.pretrained is None else options.pretrained,
        seed=options.seed,
        skip_unreadable=options.skip_unreadable or None,
        epochs=options.epochs,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        warmup_epochs=options.warmup_epochs,
        optimizer=options.optimizer,
        schedule=options.scheduler,
        step_epochs=options.step_epochs,
        criterion=options.criterion,
        patience=options.patience,
        balance=options.balance,
        label_smoothing=options.label_smoothing,
        layer_decay=options.layer_decay,
        patch_drop_rate=options.patch_drop_rate,
        mixup=options.mixup,
        cutmix=options.cutmix,
        loss=options.kd_loss,
        alpha=options.alpha,
        temperature=options.temperature,
        teacher=asked_teacher(options.teacher_weights, options.teacher_model, options.stage),
        teacher_mode=options.teacher,
        teacher_views=options.teacher_views,
    )


def _overrides(options: RunOptions) -> Overrides:
    return Overrides(
        batch_size=options.batch_size,
        precision=_one_of(
            options.precision,
            "precision",
            options.mixed_precision,
            "mixed-precision",
            PRECISION_OF,
        ),
        checkpointing=_one_of(
            options.checkpointing,
            "checkpointing",
            options.gradient_checkpointing,
            "gradient-checkpointing",
            CHECKPOINTING_OF,
        ),
        deterministic=options.deterministic,
    )


def _one_of(
    value: T | None, name: str, switch: bool | None, switch_name: str, meaning: Mapping[bool, T]
) -> T | None:
    """The value of an option, or of the write-up's switch for the same thing; never of both."""
    if switch is None:
        return value
    if value is not None:
        raise UserError(f"Give --{name} or --{switch_name}, not both.")
    return meaning[switch]


def _weights(recipe: Recipe, options: RunOptions) -> dict[StageName, Path]:
    """The files to start from, by stage; `UserError` where it is not said for which."""
    found: dict[StageName, Path] = {}
    for text in options.weights:
        name, _, path = text.partition("=")
        stage = options.stage
        if name in STAGES:
            stage = recipe.stage_named(name).name
        else:
            path = text
        if stage == "all":
            raise UserError(
                f"--weights {text} does not say for which stage. Write STAGE={text}, "
                "or choose one with --stage."
            )
        if not Path(path).is_file():
            raise UserError(f"--weights: there is no file {path}.")
        found[stage] = Path(path)
    return found


def _check_before_work(
    recipe: Recipe, profile: Profile | None, stage: StageName | Literal["all"], out: Path
) -> None:
    """Refuse unknown data, what it has no meaning for, a profile without the stages, and a folder
    that can't be written.
    """
    for one in chosen_stages(recipe, stage):
        recipe.candidate(one.name)
        if profile is not None:
            profile.choice_for(recipe, one.name)
    check_folder(out)
    if profile is not None and profile.status == "predicted":
        say(f"Profile {profile.name}: predicted, not verified here.")
