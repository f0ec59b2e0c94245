"""The first lines of a recipe's file say what the program says."""

import pytest

from bench.simulate.predictor import Predictor
from distill.spec.recipe import load_recipe
from tests.benchmarks.recipe_headers import FIRST, FOLDER, LINE, TARGET, needed, written

WITH_HEADER = ("cifar10_short", "cifar100", "medmnist")


def header(name: str) -> dict[str, tuple[int, int]]:
    """Images at a time and MiB of each stage, as the file says them."""
    comment = (FOLDER / f"{name}.toml").read_text().partition("\n\n")[0]
    assert FIRST in comment
    return {
        found[1]: (int(found[2]), int(found[3].replace(",", "")))
        for found in map(LINE.fullmatch, comment.splitlines())
        if found
    }


@pytest.mark.parametrize("name", WITH_HEADER)
def test_every_stage_stands_in_the_header(name: str) -> None:
    recipe = load_recipe(name)
    assert list(header(name)) == [stage.name for stage in recipe.stage]
    assert "Reproduces:" in (FOLDER / f"{name}.toml").read_text()


@pytest.mark.slow
def test_a_header_says_what_is_predicted_now() -> None:
    """Of the students, whose traces take least; the others come from the same command."""
    predictor = Predictor(TARGET, "expandable")
    for name in WITH_HEADER:
        found = needed(load_recipe(name), "student", predictor)
        batch, mib = header(name)["student"]
        assert found.micro_batch == batch
        assert found.mib == pytest.approx(mib, rel=0.01), f"{name}: write the header again"


def test_a_header_is_replaced_and_not_repeated() -> None:
    text = "# About.\n\nname = 1\n\n[training]\n"
    once = written(text, ["#   a"])
    assert once == f"# About.\n#\n{FIRST}\n#   a\n\nname = 1\n\n[training]\n"
    assert written(once, ["#   b"]) == once.replace("#   a", "#   b")
