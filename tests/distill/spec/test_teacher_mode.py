"""Where a stage's teacher is: as the command line says, then the profile, then the recipe."""

from dataclasses import replace

import pytest

from distill.base.errors import UserError
from distill.spec.candidate import Candidate
from distill.spec.profile import Choice, Profile
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides, plan_stage


def modes(recipe: Recipe) -> list[tuple[str, int]]:
    """Of each stage that is taught where its teacher is, and how many views would be cached."""
    found = []
    for stage in recipe.stage[1:]:
        training = recipe.training_of(stage.name)
        candidate = recipe.candidate(stage.name)
        found.append((candidate.teacher_logits, training.cached_views(candidate.input)))
    return found


def with_cached_student(profile: Profile, views: int) -> Profile:
    """The profile whose student reads its teacher's logits."""

    def changed(choice: Choice) -> Choice:
        if choice.stage != "student":
            return choice
        candidate = replace(choice.candidate, teacher_logits="cached")
        return choice.model_copy(update={"candidate": candidate, "teacher_views": views})

    return profile.model_copy(update={"choices": tuple(map(changed, profile.choices))})


def test_a_teacher_is_online_where_nobody_says_more() -> None:
    recipe = load_recipe("cifar10")
    assert modes(recipe) == [("online", 8), ("online", 8)]
    asked = changed_recipe(recipe, RecipeChanges(teacher_mode="online"))
    assert asked.digest() == changed_recipe(recipe, RecipeChanges()).digest()


def test_the_command_line_caches_the_teachers_of_all_stages_that_have_one() -> None:
    recipe = changed_recipe(load_recipe("cifar10"), RecipeChanges(teacher_mode="cached"))
    assert modes(recipe) == [("cached", 8), ("cached", 8)]
    assert recipe.candidate("teacher").teacher_logits == "online"
    more = changed_recipe(recipe, RecipeChanges(teacher_views=12))
    assert modes(more) == [("cached", 12), ("cached", 12)]
    few_epochs = changed_recipe(more, RecipeChanges(epochs=5))
    assert modes(few_epochs) == [("cached", 5), ("cached", 5)]
    back = changed_recipe(more, RecipeChanges(teacher_mode="online"))
    assert back.digest() == load_recipe("cifar10").digest()


def test_an_image_that_is_always_seen_as_it_is_needs_one_view() -> None:
    """The whole training then takes the teacher's time for one epoch, and learns the same."""
    recipe = changed_recipe(load_recipe("demo"), RecipeChanges(teacher_mode="cached"))
    assert modes(recipe) == [("cached", 1), ("cached", 1)]


def test_a_profile_goes_before_the_recipe_and_the_command_line_before_it(
    rtx4050_profile: Profile,
) -> None:
    recipe, profile = load_recipe("cifar10"), with_cached_student(rtx4050_profile, 4)
    chosen = changed_recipe(recipe, RecipeChanges(), profile)
    assert modes(chosen) == [("online", 8), ("cached", 4)]
    plan = plan_stage(
        chosen, chosen.stage[2], profile=profile, overrides=Overrides(), device="cuda",
        compute_capability=(8, 9),
    )  # fmt: skip
    assert plan.cached_views == 4 and plan.overridden is None
    cached = changed_recipe(recipe, RecipeChanges(teacher_mode="cached"))
    assert modes(changed_recipe(cached, RecipeChanges(), profile))[0] == ("online", 8)
    asked = changed_recipe(recipe, RecipeChanges(teacher_mode="online"), profile)
    assert modes(asked) == [("online", 8), ("online", 8)]
    plan = plan_stage(
        asked, asked.stage[2], profile=profile, overrides=Overrides(), device="cuda",
        compute_capability=(8, 9),
    )  # fmt: skip
    assert plan.overridden is not None and plan.overridden.online_teacher is not None


def test_a_profile_without_cached_logits_is_written_as_it_always_was(
    rtx4050_profile: Profile,
) -> None:
    (*_, written) = rtx4050_profile.model_dump(mode="json")["choices"]
    assert not {"teacher_views", "caching"} & written.keys()
    assert "teacher_logits" not in written["candidate"]
    cached = with_cached_student(rtx4050_profile, 4)
    assert Profile.model_validate_json(cached.model_dump_json()) == cached


@pytest.mark.parametrize(("mode", "views"), [("caching", None), ("cached", None), ("online", 4)])
def test_a_choice_says_how_many_views_if_and_only_if_it_is_cached(
    rtx4050_profile: Profile, mode, views: int | None
) -> None:
    choice = rtx4050_profile.choices[2]
    candidate: Candidate = replace(choice.candidate, teacher_logits=mode)
    document = choice.model_dump() | {"candidate": candidate, "teacher_views": views}
    with pytest.raises(ValueError, match="teacher_logits"):
        Choice.model_validate(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher_views": 3}, "the teacher of stage assistant is online"),
        ({"teacher_mode": "cached", "balance": "sampling"}, "--balance weights, or --teacher onli"),
    ],
)
def test_what_cannot_work_is_refused_with_its_cure(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        modes(changed_recipe(load_recipe("cifar10"), RecipeChanges(**changes)))


def test_mixed_images_have_no_logits_to_cache() -> None:
    recipe = load_recipe("cifar10")
    mixed = recipe.augmentation.model_copy(update={"mixup": 0.8})
    recipe = recipe.model_copy(update={"augmentation": mixed})
    assert modes(recipe)[0] == ("online", 8)
    with pytest.raises(UserError, match="--mixup and --cutmix mix other images"):
        modes(changed_recipe(recipe, RecipeChanges(teacher_mode="cached")))


def test_a_chain_that_nothing_teaches_has_no_teacher_to_cache() -> None:
    recipe = load_recipe("cifar10")
    alone = recipe.model_copy(update={"stage": recipe.stage[:1]})
    with pytest.raises(UserError, match="no stage that is taught"):
        changed_recipe(alone, RecipeChanges(teacher_mode="cached"))
