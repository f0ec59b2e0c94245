"""Cards and budgets."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.card.budget import assumed_budget
from bench.card.detect import CardFacts
from bench.card.targets import target_like, target_named, target_names
from distill.base.errors import UserError

MIB = 2**20


@pytest.mark.parametrize("name", target_names())
def test_every_card_of_the_table_can_be_a_target(name: str) -> None:
    target = target_named(name)
    assert target.total_bytes > 5 * 2**30
    assert target.half_flops > target.fp32_flops


def test_an_unknown_card_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="Unknown target 'rtx9999'. There are: rtx4050"):
        target_named("rtx9999")


def test_the_arithmetic_of_a_6_gib_card() -> None:
    budget = assumed_budget(6)
    assert budget.card_total_bytes == 5775 * MIB
    assert budget.limit_bytes == (5775 - 512 - 0 - 256) * MIB
    assert budget.card_total_source == budget.context_source == "assumed"


def test_a_card_on_which_nothing_is_left_is_one_sentence() -> None:
    with pytest.raises(UserError, match="--vram 0.5 leaves nothing to train in"):
        assumed_budget(0.5)


def test_a_card_that_is_there_takes_the_rates_of_the_nearest_known_one() -> None:
    card = CardFacts(
        name="NVIDIA GeForce RTX 4050 Laptop GPU",
        compute_capability=(8, 9),
        multiprocessors=20,
        threads_per_multiprocessor=1536,
        total_bytes=5800 * MIB,
        free_bytes=5000 * MIB,
        context_bytes=300 * MIB,
        driver="580",
    )
    target = target_like(card)
    assert (target.name, target.title) == ("rtx4050", card.name)
    assert target.total_bytes == card.total_bytes
    assert target.bandwidth_bytes == target_named("rtx4050").bandwidth_bytes
    other = target_like(replace(card, name="NVIDIA GeForce RTX 4060 Laptop GPU"))
    assert other.name == "rtx-4060-laptop"


def test_a_target_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "target.json"
    file.write_text(target_named("h200").model_dump_json())
    assert target_named(str(file)) == target_named("h200")
    file.write_text("{}")
    with pytest.raises(UserError, match="is no target: Field required"):
        target_named(str(file))
    with pytest.raises(UserError, match="Cannot read target"):
        target_named(str(tmp_path / "none.json"))
