"""A profile against a machine: the same goes, another is refused with every difference."""

from dataclasses import replace

import pytest

from distill.base.errors import ProfileMismatch
from distill.device.fingerprint import Machine, check, machine_differences, machine_without_card
from distill.spec.profile import Fingerprint, Profile, RecipeMark
from distill.spec.recipe import Recipe, load_recipe

HERE = Machine(
    torch="2.11.0+cu130",
    timm="1.0.20",
    step="abc",
    card="RTX 4050 Laptop",
    card_total_bytes=6_055_526_400,
    compute_capability=(8, 9),
    driver="580.95.05",
)


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("cifar10")


@pytest.fixture
def verified(recipe: Recipe) -> Profile:
    """A profile that holds for the machine above; only what `check` reads is in it."""
    return Profile.model_construct(
        name="here",
        status="verified",
        recipe=RecipeMark(name=recipe.name, digest=recipe.digest()),
        fingerprint=Fingerprint(
            torch="2.11.0",
            timm="1.0.20",
            card=HERE.card,
            card_total_bytes=HERE.card_total_bytes,
            compute_capability=(8, 9),
            driver="580.65.06",
            step="abc",
        ),
    )


def test_the_same_machine_goes_whatever_the_build_and_the_patch_of_the_driver(
    verified, recipe
) -> None:
    assert check(verified, HERE, recipe, force=False) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"card": "H200"}, "card RTX 4050 Laptop there, H200 here"),
        ({"card_total_bytes": 1 << 33}, "memory"),
        ({"compute_capability": (7, 5)}, "compute capability 8.9 there, 7.5 here"),
        ({"driver": "570.1"}, "driver branch 580 there, 570 here"),
        ({"driver": None}, "driver branch 580 there, unknown here"),
        ({"torch": "2.12.0"}, "torch 2.11.0 there, 2.12.0 here"),
        ({"timm": "1.1"}, "timm 1.0.20 there, 1.1 here"),
        ({"step": "xyz"}, "source of the step abc there, xyz here"),
    ],
)
def test_each_difference_is_refused_with_its_words_and_cures(
    verified, recipe, changes, words
) -> None:
    other = replace(HERE, **changes)
    with pytest.raises(ProfileMismatch, match="--reverify.*--force") as raised:
        check(verified, other, recipe, force=False)
    assert words in str(raised.value) and raised.value.exit_code == 6
    assert len(check(verified, other, recipe, force=True)) == 1


def test_another_recipe_is_a_difference(verified, recipe) -> None:
    other = recipe.model_copy(update={"seed": 99})
    assert ["recipe" in line for line in machine_differences(verified, HERE, other)] == [True]


def test_a_machine_without_a_card_is_told_so_once(verified, recipe) -> None:
    bare = replace(HERE, card=None, card_total_bytes=None, compute_capability=None, driver=None)
    assert machine_differences(verified, bare, recipe) == ["card RTX 4050 Laptop there, none here"]


def test_a_predicted_profile_is_held_against_nothing(verified, recipe) -> None:
    predicted = verified.model_copy(update={"status": "predicted"})
    assert check(predicted, machine_without_card(), recipe, force=False) == []


def test_the_digest_of_the_step_is_this_source() -> None:
    assert machine_without_card().step == machine_without_card().step != ""
