"""`bench predict` and `bench probe` give one number when they are asked the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.card.budget import assumed_budget
from bench.card.targets import target_of_size
from bench.cli import main
from bench.simulate.families import FamilyJob, predict_family
from bench.simulate.prediction import Prediction
from distill.spec.bounds import MOST_IMAGES
from distill.spec.recipe import load_recipe
from tests.conftest import RECIPE

VRAM = 0.85


def asked(recipe: Path, *options: str, fits: bool = True) -> str:
    words = ("predict", "--recipe", str(recipe), "--stage", "teacher", "--precision", "fp32")
    result = CliRunner().invoke(main, [*words, "--allocator", "expandable", *options])
    assert result.exit_code == (0 if fits else 4), result.output
    return result.stdout


@pytest.mark.slow
def test_the_largest_batch_is_the_probes_when_it_fills_the_recipes_update(
    recipe_file: Path,
) -> None:
    recipe = load_recipe(str(recipe_file))
    limit_bytes = assumed_budget(VRAM, target_of_size(VRAM)).limit_bytes
    family = replace(recipe.candidate("teacher"), implementation="fused")
    job = FamilyJob(
        cells=tuple(family.with_batch(batch, 64) for batch in (1, 2, 64)),
        effective_batch=64,
        target=target_of_size(VRAM),
        allocator="expandable",
        limit_bytes=limit_bytes,
    )
    answers = [answer for answer in predict_family(job) if isinstance(answer, Prediction)]
    probed = {p.candidate.micro_batch: p for p in answers}
    assert 1 not in probed  # a program of its own, which nobody takes where so many fit
    looked_for = {batch for batch, p in probed.items() if p.largest_evaluation_batch is not None}
    assert looked_for == {64}  # two at a time are much slower, and more don't divide 64
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


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 8), (4, 2), (5, 2), (8, 1), (65, 8)])
def test_one_of_many_processes_takes_its_part_or_where_images_are_too_few_all(
    recipe_file: Path, processes: int, accumulation: int
) -> None:
    options = ("--batch-size", "8", "--accumulation", "recipe", "--world-size", str(processes))
    candidate = json.loads(asked(recipe_file, *options, "--json"))["candidate"]
    assert candidate["accumulation"] == accumulation


@pytest.mark.parametrize(("batch", "processes", "fits"), [(16, 4, True), (17, 4, False)])
def test_one_of_many_processes_takes_no_more_at_a_time_than_its_part(
    recipe_file: Path, batch: int, processes: int, fits: bool
) -> None:
    words = ("--batch-size", str(batch), "--world-size", str(processes))
    asked_for = ["predict", "--recipe", str(recipe_file), "--stage", "teacher", *words]
    ended = CliRunner().invoke(main, asked_for)
    assert ended.exit_code == (0 if fits else 2)
    told = "17 is more than each of 4 processes takes of an update of 64 images, which is 16."
    assert (told in ended.stderr) is not fits


# -- larger than the card


@pytest.mark.slow
def test_what_is_larger_than_the_cards_address_range_does_not_fit() -> None:
    words = "predict --stage teacher --precision fp32 --checkpointing 0 --batch-size 4096"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 4, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("does not fit")]
    missing = int(line.split(":")[1].split()[0].replace(",", ""))
    assert "MiB more than the 5,007 MiB that are there" in line
    reserved = next(one for one in result.output.splitlines() if one.startswith("peak reserved"))
    assert missing == pytest.approx(float(reserved.split()[2].replace(",", "")) - 5007, abs=2)


@pytest.mark.parametrize(("batch", "fits"), [(4, True), (65536, False)])
def test_an_answer_says_if_it_fits_and_how_many_bytes_are_missing(
    recipe_file: Path, batch: int, fits: bool
) -> None:
    options = ("--batch-size", str(batch), "--target", "rtx3050-laptop-4gb")
    document = json.loads(asked(recipe_file, *options, "--json", fits=fits))
    needed = max(document["peak_reserved_max_bytes"], document["cap_needed_bytes"])
    room = document["limit_bytes"] - needed
    assert document["fits"] == fits == (room >= 0)
    assert (document["left_bytes"], document["missing_bytes"]) == (max(0, room), max(0, -room))
    last = asked(recipe_file, *options, fits=fits).splitlines()[-1]
    there = "3,082 MiB that are there for PyTorch"
    if fits:
        assert last == f"fits in the {there}: {room // 2**20:,} MiB are left"
    else:
        assert last == f"does not fit: {-(room // 2**20):,} MiB more than the {there}"


def test_where_no_batch_fits_the_verdict_and_the_exit_code_say_so(recipe_file: Path) -> None:
    text = asked(recipe_file, "--max-batch", "--limit-mib", "10", fits=False)
    assert text.startswith("No batch fits") and "micro-batch 1: does not fit" in text
    document = json.loads(
        asked(recipe_file, "--max-batch", "--limit-mib", "10", "--json", fits=False)
    )
    assert document["fits"] is False and document["max_batch"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [("--vram", "48"), ("--target", "h100")])
def test_the_largest_batch_is_found_on_a_card_of_that_size(
    recipe_file: Path, size: tuple[str, str]
) -> None:
    document = json.loads(asked(recipe_file, "--max-batch", *size, "--json"))
    total = document["prediction"]["target"]["total_bytes"]
    assert document["limit_bytes"] < total
    assert (document["max_batch"], document["first_that_does_not_fit"]) == (MOST_IMAGES, None)
    text = asked(recipe_file, "--max-batch", *size)
    assert "Largest micro-batch: 65536" in text and "more images at a time are not taken" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--target rtx4050 --vram 24", "--vram 24 is more than RTX 4050 Laptop has"),
        ("--target t4 --vram 24", "--vram 24 is more than T4 has"),
        ("--limit-mib 6000", "--limit-mib 6000 is more than RTX 4050 Laptop has"),
        ("--vram 0.5", "leaves nothing to train in"),
    ],
)
def test_a_size_that_contradicts_the_card_is_one_sentence(options: str, words: str) -> None:
    result = CliRunner().invoke(
        main, ["predict", "--stage", "teacher", "--batch-size", "4", *options.split()]
    )
    assert result.exit_code == 2 and words in result.output
    assert result.output.count("\n") == 1


def test_a_card_of_almost_nothing_is_refused() -> None:
    asked_for = ["predict", "--stage", "teacher", "--batch-size", "4", "--vram", "5e-324"]
    result = CliRunner().invoke(main, asked_for)
    assert result.exit_code == 2 and "must be at least 0.1" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "card"), [("fp16", "rtx4050"), ("bf16", "rtx3060")])
def test_heads_that_a_card_cannot_train_with_flash_attention_are_refused(
    tmp_path: Path, precision: str, card: str
) -> None:
    (tmp_path / "wide.toml").write_text(
        RECIPE.replace("width = 32, heads = 2", "width = 208, heads = 1")
    )
    words = ("--stage", "teacher", "--batch-size", "2", "--precision", precision, "--target", card)
    result = CliRunner().invoke(main, ["predict", "--recipe", str(tmp_path / "wide.toml"), *words])
    assert result.exit_code == 2, result.output
    assert "208 numbers a head, which the flash kernel does not train on" in result.output
    assert "--precision fp32" in result.output
    wider = ["predict", "--recipe", str(tmp_path / "wide.toml"), *words[:-1], "a100"]
    assert CliRunner().invoke(main, wider).exit_code == 0


def test_a_part_of_a_card_is_called_one(recipe_file: Path) -> None:
    text = asked(recipe_file, "--batch-size", "4", "--target", "h100", "--vram", "6")
    assert "--vram 6 is a part of H100 80 GB: as if no more were there." in text
    assert "fits in the 5,007 MiB" in text
    assert "has been recorded" not in text
