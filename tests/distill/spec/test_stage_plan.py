"""Decisions of the chain: what the command line, the profile and the recipe each have to say."""

from dataclasses import replace
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.spec.own_work import OwnWork
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides, chosen_stages, plan_stage


def plan(stage="student", profile=None, device="cpu", overrides=None, recipe="demo"):
    loaded = load_recipe(recipe)
    return plan_stage(
        loaded,
        loaded.stage_named(stage),
        profile=profile,
        overrides=overrides or Overrides(),
        device=device,
        compute_capability=(8, 9) if device == "cuda" else None,
    )


def test_changes_reach_every_stage_and_its_own_values() -> None:
    recipe = changed_recipe(load_recipe("demo"), RecipeChanges(epochs=3, alpha=0.1, seed=5))
    assert {recipe.training_of(stage.name).epochs for stage in recipe.stage} == {3}
    assert (recipe.distillation.alpha, recipe.seed) == (0.1, 5)
    assert recipe.distillation.temperature == 4.0


def test_a_change_that_is_not_possible_is_refused() -> None:
    with pytest.raises(UserError, match=r"Recipe demo: seed = -1 is not possible"):
        changed_recipe(load_recipe("demo"), RecipeChanges(seed=-1))


def test_a_folder_of_images_is_known_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = changed_recipe(
        load_recipe("demo"), RecipeChanges(work=OwnWork(dataset="folder:photos"))
    )
    assert recipe.dataset == f"folder:{tmp_path / 'photos'}"


def test_asking_for_nothing_changes_nothing() -> None:
    recipe = load_recipe("demo")
    assert changed_recipe(recipe, RecipeChanges()).digest() == recipe.digest()


def test_a_cpu_trains_in_fp32_without_checkpointing_and_says_so(rtx4050_profile) -> None:
    planned = plan("teacher", profile=rtx4050_profile, recipe="cifar10")
    assert (planned.candidate.precision, planned.candidate.checkpointing) == ("fp32", 0)
    assert planned.notes == ("On a CPU: bf16 becomes fp32.",)
    assert planned.pins is None


def test_the_command_line_goes_before_the_cpus_default() -> None:
    planned = plan(overrides=Overrides(precision="bf16", checkpointing=2))
    assert (planned.candidate.precision, planned.candidate.checkpointing) == ("bf16", 2)


def test_the_profile_goes_before_the_recipe(rtx4050_profile) -> None:
    planned = plan("teacher", profile=rtx4050_profile, device="cuda", recipe="cifar10")
    choice = rtx4050_profile.choices[0]
    assert planned.candidate == choice.candidate
    assert planned.budget == rtx4050_profile.budget
    assert planned.pins is not None and planned.pins.attention == "flash"


def test_the_command_line_goes_before_the_profile(rtx4050_profile) -> None:
    planned = plan(
        "teacher",
        profile=rtx4050_profile,
        device="cuda",
        recipe="cifar10",
        overrides=Overrides(batch_size=8, precision="fp32", deterministic=True),
    )
    assert (planned.candidate.micro_batch, planned.candidate.accumulation) == (8, 16)
    assert planned.pins is not None
    assert planned.pins.attention == "efficient"
    assert planned.pins.cublas_workspace_config == ":4096:8"


def test_a_batch_larger_than_an_update_is_refused() -> None:
    with pytest.raises(UserError, match="--batch-size 65 is more than the 64 images per update"):
        plan(overrides=Overrides(batch_size=65))


def test_a_stage_that_the_recipe_lacks_is_refused() -> None:
    recipe = load_recipe("demo")
    alone = recipe.model_copy(update={"stage": recipe.stage[:1]})
    assert [stage.name for stage in chosen_stages(alone, "all")] == ["teacher"]
    with pytest.raises(UserError, match="has no stage student. It has: teacher"):
        chosen_stages(alone, "student")


def test_a_profile_for_other_models_is_refused(rtx4050_profile) -> None:
    with pytest.raises(UserError, match="is for another student in stage teacher"):
        plan("teacher", profile=rtx4050_profile, recipe="demo")


def test_a_profile_for_another_image_size_says_which(rtx4050_profile) -> None:
    recipe = load_recipe("cifar10").model_copy(update={"image_size": 160})
    with pytest.raises(UserError, match="image size 224 in the profile, 160 in the recipe"):
        rtx4050_profile.choice_for(recipe, "teacher")


def test_a_profile_for_another_batch_is_refused(rtx4050_profile) -> None:
    recipe = load_recipe("cifar10")
    training = recipe.training.model_copy(update={"effective_batch": 64})
    other = recipe.model_copy(update={"training": training})
    with pytest.raises(UserError, match="for another effective batch"):
        rtx4050_profile.choice_for(other, "teacher")
    assert replace(rtx4050_profile.choices[0].candidate) == rtx4050_profile.choices[0].candidate


def test_a_warm_up_that_never_ends_is_told() -> None:
    recipe = changed_recipe(load_recipe("demo"), RecipeChanges(epochs=2, warmup_epochs=2))
    stage = recipe.stage_named("teacher")
    made = plan_stage(recipe, stage, profile=None, overrides=Overrides(), device="cpu")
    assert "Warms up for 2 of 2 epochs, so the learning rate never reaches" in made.notes[0]
    assert plan("teacher").notes == ()


def test_options_of_the_update_reach_a_profiles_candidate(rtx4050_profile) -> None:
    changes = RecipeChanges(
        label_smoothing=0.1, layer_decay=0.75, patch_drop_rate=0.5, loss="logit_std"
    )
    recipe = changed_recipe(load_recipe("cifar10"), changes)
    student = recipe.stage_named("student")
    planned = plan_stage(
        recipe,
        student,
        profile=rtx4050_profile,
        overrides=Overrides(),
        device="cuda",
        compute_capability=(8, 9),
    )
    candidate = planned.overridden
    assert candidate is not None and candidate == planned.candidate and planned.choice is None
    assert (candidate.label_smoothing, candidate.layer_decay) == (True, True)
    assert (candidate.patch_drop_rate, candidate.soft_loss) == (0.5, "logit_std")


@pytest.mark.parametrize(
    ("dataset", "changes", "sentence"),
    [
        ("chestmnist", RecipeChanges(label_smoothing=0.1), "which --label-smoothing does not know"),
        ("chestmnist", RecipeChanges(loss="logit_std"), "have no standard scores"),
        ("breastmnist", RecipeChanges(loss="logit_std"), "standard scores of two logits"),
        ("cifar10", RecipeChanges(patch_drop_rate=0.96), "patch_drop_rate = 0.96 is not possible"),
        ("cifar10", RecipeChanges(layer_decay=0.0), "layer_decay = 0.0 is not possible"),
        ("cifar10", RecipeChanges(label_smoothing=1.0), "label_smoothing = 1.0 is not possible"),
    ],
)
def test_what_the_labels_have_no_meaning_for_is_refused(dataset, changes, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        recipe = changed_recipe(load_recipe("cifar10"), changes)
        recipe.model_copy(update={"dataset": dataset}).candidate("student")


def test_deterministic_kernels_and_left_out_patches_exclude_each_other_on_a_card() -> None:
    recipe = changed_recipe(load_recipe("demo"), RecipeChanges(patch_drop_rate=0.5))
    chosen = recipe, recipe.stage_named("student")
    exact = Overrides(deterministic=True)
    assert plan_stage(*chosen, profile=None, overrides=exact, device="cpu").candidate.deterministic
    with pytest.raises(UserError, match="one of --deterministic and --patch-drop-rate"):
        plan_stage(*chosen, profile=None, overrides=exact, device="cuda", compute_capability=(8, 9))
