"""Cards and budgets."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bench.card.budget import LEAST_SHARE_SEEN, assumed_budget
from bench.card.cards import (
    card_notes,
    has_bf16,
    has_tensor_cores,
    known_cards,
    threads_per_multiprocessor,
)
from bench.card.detect import CardFacts
from bench.card.targets import (
    check_size,
    is_part_of,
    target_asked,
    target_like,
    target_line,
    target_named,
    target_names,
    target_of_size,
)
from bench.cli import main
from bench.probe.grid import families
from distill.base.errors import UserError
from distill.spec.calibration import Calibration
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from tests.conftest import ROOT

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize("name", target_names())
def test_every_card_of_the_table_can_be_a_target(name: str) -> None:
    target, card = target_named(name), known_cards()[name]
    assert target.half_flops > target.fp32_flops
    assert target.bandwidth_bytes > 1e11
    assert LEAST_SHARE_SEEN < target.total_bytes / (card.box_gib * GIB) < 1
    assert None not in (card.fp32_tflops, card.half_tflops, card.bandwidth_gbs)


def test_a_card_is_called_recorded_if_its_recordings_are_here() -> None:
    hosts = (ROOT / "results/evidence").glob("*/host.json")
    found = {json.loads(path.read_text())["card"]["name"]: path.parent.name for path in hosts}
    assert set(found.values()) == {n for n, card in known_cards().items() if card.recorded}
    for name, folder in found.items():
        facts = json.loads((ROOT / f"results/evidence/{folder}/host.json").read_text())["card"]
        assert target_like(TypeAdapter(CardFacts).validate_python(facts)).name == folder, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rtx9999", "Unknown target 'rtx9999'.*All: bench cards"),
        ("rtx4060", "Did you mean rtx4060-laptop, rtx4060ti-16gb or "),
        ("4090", r"Did you mean rtx4090.*\?"),
        ("", "All: bench cards"),
    ],
)
def test_an_unknown_card_names_the_nearest(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        target_named(name)


def test_a_name_may_be_written_as_people_do() -> None:
    assert target_named("RTX4090").name == "rtx4090"


# -- size and card agree


@pytest.mark.parametrize(
    ("vram", "name"),
    [(None, "rtx4050"), (6, "rtx4050"), (8, "rtx4060-laptop"), (24, "rtx3090"), (80, "h100")],
)
def test_without_a_name_a_card_of_that_size_is_taken(vram: float | None, name: str) -> None:
    assert target_asked(None, vram) == target_named(name)


def test_a_size_that_no_card_has_is_described_and_called_assumed() -> None:
    target = target_asked(None, 48)
    assert target.title == "a card of 48 GiB, assumed like A100 40 GB: 108 multiprocessors"
    assert "compute capability 8.0, 45.12 GiB" in target_line(target)
    assert target.total_bytes == int(0.94 * 48 * 1024) * MIB


@given(st.floats(0.1, 1024))
def test_every_size_has_a_card_with_as_much_memory_and_bf16(vram: float) -> None:
    target = target_of_size(vram)
    assert LEAST_SHARE_SEEN * vram * GIB - MIB <= target.total_bytes <= vram * GIB
    assert has_bf16(target.compute_capability)
    check_size(target, vram)


@pytest.mark.parametrize(("name", "box"), [(n, card.box_gib) for n, card in known_cards().items()])
def test_a_card_agrees_with_its_own_size_and_a_part_of_it_only(name: str, box: float) -> None:
    target = target_asked(name, box)
    assert not is_part_of(target, box)
    assert is_part_of(target, box / 2)
    assert assumed_budget(box, target).card_total_bytes <= target.total_bytes
    with pytest.raises(UserError, match=f"--vram {2 * box:g} is more than"):
        target_asked(name, 2 * box)


# -- what a card can do


@pytest.mark.parametrize(
    ("name", "bf16", "tensor_cores"),
    [
        ("gtx1650", False, False),
        ("gtx1660", False, False),
        ("v100", False, True),
        ("t4", False, True),
        ("rtx2060", False, True),
        ("a100", True, True),
        ("rtx5060-laptop", True, True),
    ],
)
def test_the_grid_has_what_the_card_can_do(name: str, bf16: bool, tensor_cores: bool) -> None:
    target = target_named(name)
    grid = families(load_recipe("demo"), target)
    assert ("bf16" in {family.precision for family in grid}) == bf16
    pins = pins_for("fp16", target.compute_capability, deterministic=False, allocator="expandable")
    assert pins.attention == ("flash" if bf16 else "efficient")
    assert has_tensor_cores(target.title, target.compute_capability) == tensor_cores


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h200", []),
        ("rtx4050", ["8.9 has been recorded"]),
        ("rtx5050-laptop", ["12.0 has been recorded"]),
        ("t4", ["7.5 has been recorded"]),
        ("v100", ["7.0 has been recorded", "no kernels for 7.0.*CUDA 12.6"]),
        ("gtx1660", ["7.5 has been recorded", "no tensor cores.*NaN in fp16"]),
    ],
)
def test_what_is_to_be_known_of_a_card_is_said(name: str, words: list[str]) -> None:
    notes = card_notes(target_named(name), half=True)
    assert len(notes) == len(words)
    assert all(re.search(word, note) for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(
    ("capability", "threads"),
    [((7, 0), 2048), ((7, 5), 1024), ((8, 0), 2048), ((8, 6), 1536), ((9, 0), 2048)],
)
def test_threads_follow_from_the_capability(capability: tuple[int, int], threads: int) -> None:
    assert threads_per_multiprocessor(capability) == threads


def test_the_listing_has_every_card_and_says_what_is_assumed() -> None:
    text = CliRunner().invoke(main, ["cards"]).output
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(known_cards())]] == target_names()
    assert "assumed" in text and max(len(line) for line in lines) <= 120
    document = json.loads(CliRunner().invoke(main, ["cards", "--json"]).output)
    assert list(document) == target_names()
    assert document["gtx1650"]["tensor_cores"] is document["gtx1650"]["bf16"] is False
    assert document["rtx4050"]["limit_bytes"] == assumed_budget(6).limit_bytes


# -- budgets


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
    assert other.name == "rtx-4060-laptop"  # a known model, but of another size


def test_of_two_sizes_of_one_model_the_memory_tells_which() -> None:
    card = CardFacts(
        name="NVIDIA GeForce RTX 3050 Laptop GPU",
        compute_capability=(8, 6),
        multiprocessors=16,
        threads_per_multiprocessor=1536,
        total_bytes=3905 * MIB,
        free_bytes=3500 * MIB,
        context_bytes=300 * MIB,
        driver="580",
    )
    assert target_like(card).name == "rtx3050-laptop-4gb"
    assert target_like(replace(card, total_bytes=5800 * MIB)).name == "rtx3050-laptop-6gb"


# -- files

CARD_FILE = """
title = "RTX 4070 Ti SUPER"
box_gib = 16
compute_capability = [8, 9]
multiprocessors = 66
"""


def test_a_target_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "target.json"
    file.write_text(target_named("h200").model_dump_json())
    assert target_named(str(file)) == target_named("h200")
    own = Calibration(product_efficiency=0.7, launch_seconds=4e-5, source="measured", machine="X")
    calibrated = target_named("h200").model_copy(update={"calibration": own})
    file.write_text(calibrated.model_dump_json())
    assert target_named(str(file)) == calibrated
    file.write_text(json.dumps({"schema_version": 1, "target": calibrated.model_dump(mode="json")}))
    assert target_named(str(file)) == calibrated  # as a profile has it
    file = tmp_path / "My Card.toml"
    file.write_text(CARD_FILE)
    target = target_named(str(file))
    assert (target.name, target.title) == ("my-card", "RTX 4070 Ti SUPER, rates assumed")
    assert (target.total_bytes, target.threads_per_multiprocessor) == (15400 * MIB, 1536)
    assert target.fp32_flops > 44e12 and target.half_flops > 88e12  # no less than the maker's
    assert target.bandwidth_bytes > 672e9
    file.write_text(CARD_FILE + "total_mib = 15945\nbandwidth_gbs = 672.3\n")
    target = target_named(str(file))
    assert (target.total_bytes, target.bandwidth_bytes) == (15945 * MIB, 672.3e9)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "title is missing. A card has title, box_gib"),
        (CARD_FILE + "vram = 3", "vram is not a known key"),
        (CARD_FILE.replace("16", "-1"), "box_gib = -1 is not possible"),
        (
            CARD_FILE + "half_tflops = 1e-9",
            "half_tflops = 1e-09 is not possible: .*A card has title",
        ),
        (CARD_FILE + "bandwidth_gbs = 0", "bandwidth_gbs = 0 is not possible: .*A card has title"),
        (CARD_FILE.replace("16", "1e-9"), "box_gib = 1e-09 is not possible"),
        (CARD_FILE + "total_mib = 20000", "total_mib = 20000 is not possible: .*less than box_gib"),
        (CARD_FILE.replace("16", "1e400"), "box_gib = inf, which is no number"),
        (CARD_FILE.replace("66", "10000000000000000000000"), "multiprocessors = 1"),
        (CARD_FILE.replace("66", "true"), "multiprocessors = True is not possible"),
        (CARD_FILE.replace("[8, 9]", "[8, 9, 1]"), "compute_capability"),
        (CARD_FILE.replace("[8, 9]", "8.9"), "compute_capability = 8.9 is not possible"),
        (CARD_FILE.replace("[8, 9]", "[99, 0]"), "compute_capability.0 = 99 is not possible"),
        ("title = ", "is not TOML"),
        ("a = " + "[" * 2000, "is nested more than 32 deep"),
        ("a" * 100_000, "larger than 64 KiB"),
        (b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_a_file_that_describes_no_card_is_one_sentence(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    file = tmp_path / "target.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words) as caught:
        target_named(str(file))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"multiprocessors": 2**62},
        {"threads_per_multiprocessor": 1},
        {"total_bytes": 0},
        {"total_bytes": 2**62},
        {"compute_capability": [-1, 5]},
        {"compute_capability": [8, 55]},
        {"fp32_flops": 1e-300},
        {"bandwidth_bytes": 1e300},
    ],
)
def test_a_json_file_of_a_card_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    file = tmp_path / "target.json"
    file.write_text(json.dumps(target_named("h100").model_dump(mode="json") | change))
    (key,) = change
    with pytest.raises(UserError, match=f"is no target: {key}.* is not possible"):
        target_named(str(file))


def test_a_json_file_that_holds_no_target_and_what_is_no_file_are_told(tmp_path: Path) -> None:
    file = tmp_path / "target.json"
    file.write_text("{}")
    with pytest.raises(UserError, match="is no target: name is missing"):
        target_named(str(file))
    with pytest.raises(UserError, match="Cannot read target"):
        target_named(str(tmp_path / "none.json"))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match="not a plain file"):
        target_named(str(tmp_path / "pipe.toml"))


def test_a_card_that_is_asked_for_by_its_title_is_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Did you mean rtx4050\?"):
        target_named("RTX 4050 Laptop")
