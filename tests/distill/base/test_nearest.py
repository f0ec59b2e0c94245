"""The known names nearest to one that is not known."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from distill.base.console import OneOf
from distill.base.errors import UserError
from distill.base.nearest import did_you_mean, did_you_mean_beside, nearest_names
from distill.spec.recipe import load_recipe


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("techer", ["teacher", "assistant", "student"], " Did you mean teacher?"),
        ("FP16", ["fp32", "fp16", "bf16"], " Did you mean fp16?"),
        ("cifar", ["demo", "cifar100", "cifar10"], " Did you mean cifar10 or cifar100?"),
        ("tutor", ["teacher", "student"], ""),
        ("", ["teacher"], ""),
        ("demo", [], ""),
    ],
)
def test_the_nearest_come_first_and_the_far_ones_not_at_all(
    name: str, known: list[str], words: str
) -> None:
    assert did_you_mean(name, known) == words


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=10))
def test_only_known_names_are_given_and_each_once(name: str, known: list[str]) -> None:
    found = nearest_names(name, known)
    assert len(found) <= 3
    assert len(set(found)) == len(found)
    assert set(found) <= set(known)


@click.command()
@click.option("--precision", type=OneOf(["fp32", "fp16", "bf16"]))
def chosen(precision: str) -> None:
    click.echo(precision)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("fp16", "fp16"),
        ("fp1", "'fp1' is not one of 'fp32', 'fp16', 'bf16'. Did you mean fp16"),
        ("double", "'double' is not one of 'fp32', 'fp16', 'bf16'."),
    ],
)
def test_an_options_word_that_is_not_known_is_told_with_the_nearest(given: str, words: str) -> None:
    assert words in CliRunner().invoke(chosen, ["--precision", given]).output


def test_a_file_or_folder_that_is_not_there_is_told_with_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.toml").write_text("mine")
    assert did_you_mean_beside(tmp_path / "fotos", folder=True) == (
        f" Did you mean {tmp_path}/photos?"
    )
    assert did_you_mean_beside(tmp_path / "nowhere" / "photos", folder=True) == ""
    assert did_you_mean_beside(tmp_path / "photo.json") == ""
    with pytest.raises(UserError, match=rf"Cannot read recipe .*{tmp_path}/photos.toml\?$"):
        load_recipe(str(tmp_path / "photo.toml"))
