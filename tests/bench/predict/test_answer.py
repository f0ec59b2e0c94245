"""`bench predict` and `bench probe` give one number when they are asked the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.card.budget import assumed_budget
from bench.card.targets import target_named
from bench.cli import main
from bench.simulate.families import FamilyJob, predict_family
from distill.spec.recipe import load_recipe

VRAM = 0.85


def asked(recipe: Path, *options: str) -> str:
    words = ("predict", "--recipe", str(recipe), "--stage", "teacher", "--precision", "fp32")
    result = CliRunner().invoke(main, [*words, "--allocator", "expandable", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_largest_batch_is_the_probes_when_it_fills_the_recipes_update(
    recipe_file: Path,
) -> None:
    recipe = load_recipe(str(recipe_file))
    limit_bytes = assumed_budget(VRAM).limit_bytes
    family = replace(recipe.candidate("teacher"), implementation="fused")
    job = FamilyJob(
        cells=(family.with_batch(64, 64),),
        effective_batch=64,
        target=target_named("rtx4050"),
        allocator="expandable",
        limit_bytes=limit_bytes,
    )
    probed = {p.candidate.micro_batch: p for p in predict_family(job)}
    options = ("--max-batch", "--vram", str(VRAM), "--accumulation", "recipe", "--json")
    document = json.loads(asked(recipe_file, *options))
    fitting = [batch for batch, p in probed.items() if p.safe_bytes <= limit_bytes]
    assert document["max_batch"] == max(fitting) > 64
    peak = document["prediction"]["peak_reserved_bytes"]
    assert peak == probed[document["max_batch"]].reserved


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        (("--batch-size", "16"), True),
        (("--max-batch", "--vram", str(VRAM)), True),
        (("--batch-size", "64"), False),
        (("--batch-size", "16", "--accumulation", "4"), False),
        (("--batch-size", "16", "--accumulation", "recipe"), False),
    ],
)
def test_that_an_update_of_the_recipe_is_larger_is_said(
    recipe_file: Path, options: tuple[str, ...], is_told: bool
) -> None:
    told = "The recipe's update has 64 images" in asked(recipe_file, *options)
    assert told == is_told
