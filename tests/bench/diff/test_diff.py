"""Two configurations, or files of some, side by side."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bench.card.targets import target_named
from bench.cli import main
from bench.compare.baseline import Baseline, BaselineCell, cell_name, write_baseline
from bench.diff.cell_labels import is_label, labelled
from bench.diff.diff_text import pair_verdict
from bench.diff.pairs import DiffPair, candidate_changes, paired
from bench.diff.predicted_sides import Predictors
from bench.diff.sides import DiffItem, DiffSide, read_side
from bench.diff.two_timelines import two_timelines
from bench.probe.grid import families
from bench.schema.command import FORMS
from bench.schema.schemas import schema_of
from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.errors import UserError
from distill.base.units import MIB
from distill.spec.profile import read_profile, write_profile
from distill.spec.recipe import load_recipe
from tests.bench.compare.planting import WHOLE, predict
from tests.bench.compare.test_planted_mistakes import copies_of_the_gradients
from tests.bench.schema.json_schema import problems
from tests.conftest import RECIPE, ROOT

CIFAR = load_recipe("cifar10")
PROFILE = ROOT / "profiles" / "rtx4050.json"


def asked(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, words)])


def item(name: str, mib: int | None, **changes: object) -> DiffItem:
    values = {"stage": name.partition("/")[0], "source": "predicted"} | changes
    reserved = None if mib is None else mib * MIB
    return DiffItem(name=name, reserved_bytes=reserved, **values)  # type: ignore[arg-type]


def side(*items: DiffItem) -> DiffSide:
    return DiffSide(title="x.json", kind="journal", environment={}, items=items)


def baseline(*cells: BaselineCell, **changes: str) -> Baseline:
    values = {"torch": version("torch"), "timm": version("timm"), "target": "rtx4050"} | changes
    return Baseline(schema=1, recipe="cifar10", allocator="expandable", cells=cells, **values)


# -- names of configurations


@given(
    stage=st.sampled_from(["teacher", "assistant", "student"]),
    precision=st.sampled_from(["fp32", "fp16", "bf16"]),
    again=st.sampled_from(["", "+cheap", "+ckpt", "+ckpt/2", "+ckpt/12"]),
    images=st.tuples(st.integers(1, 512), st.integers(1, 512)),
)
def test_a_name_gives_the_configuration_of_that_name(
    stage: str, precision: str, again: str, images: tuple[int, int]
) -> None:
    name = f"{stage}/{precision}{again}/{images[0]}x{images[1]}"
    assert cell_name(labelled(name, CIFAR)) == name


def test_a_name_is_that_of_the_grids_configuration() -> None:
    for family in families(CIFAR, target_named("rtx4050")):
        cell = family.with_batch(32, 128)
        assert labelled(cell_name(cell), CIFAR) == cell
        assert labelled(cell_name(cell).removesuffix("x4"), CIFAR) == cell


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("student/fp16/0", "is neither a file nor a configuration such as"),
        ("student/fp16", "is neither a file nor a configuration such as"),
        ("student/fp64/8", "is neither a file nor a configuration such as"),
        ("student/fp16/999999999", "is more than 65536"),
        ("teacher/fp16+cached/8", "is taught by nothing"),
    ],
)
def test_what_is_no_configuration_is_one_sentence(name: str, words: str) -> None:
    result = asked(name, "student/fp16/8")
    assert result.exit_code == 2 and words in result.output
    assert is_label(name) or "neither" in words


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("student/bf17/32", "student/bf16/32"),
        ("studnt/fp16/8x2", "student/fp16/8x2"),
        ("teacher/bf16+ckp/2/8", "teacher/bf16+ckpt/2/8"),
        ("student/fp16", "student/fp16/32x4"),
        (PROFILE.with_name("rtx405.json"), PROFILE),
    ],
)
def test_the_nearest_is_named_for_a_misspelt_side(name: str | Path, meant: str | Path) -> None:
    assert f"Did you mean {meant}?" in asked(name, PROFILE).output


def test_every_setting_that_differs_is_named() -> None:
    one, other = labelled("student/fp16/8x2", CIFAR), labelled("teacher/bf16+ckpt/8", CIFAR)
    found = candidate_changes(one, other)
    assert "precision fp16 → bf16" in found and "checkpointing 0 → 1" in found
    assert "teacher vit_small_patch16_224 → –" in found
    assert "accumulation 2 → 16" in found
    assert candidate_changes(one, one) == []


# -- what belongs together


def test_two_that_stand_alone_belong_together_whatever_they_are_called() -> None:
    found = paired(side(item("student/fp16/8x16", 1)), side(item("teacher/fp16/8x16", 2)))
    assert [pair.change_bytes for pair in found.pairs] == [MIB]


def test_sides_with_one_configuration_a_stage_are_matched_by_stage() -> None:
    a = side(item("student/fp16/8x16", 1), item("teacher/fp16/8x16", 5))
    b = side(item("teacher/bf16/4x32", 3), item("student/fp32/8x16", 2))
    found = paired(a, b)
    assert [(pair.a.stage, pair.change_bytes) for pair in found.pairs] == [
        ("teacher", -2 * MIB),
        ("student", MIB),
    ]


def test_others_are_matched_by_name_and_measured_numbers_with_measured_ones() -> None:
    a = side(
        item("student/fp16/8x16", 4, source="measured"),
        item("student/fp16/8x16", 1),
        item("student/fp16/4x32", 1),
    )
    b = side(
        item("student/fp16/8x16", 2),
        item("student/fp16/8x16", 9, source="measured"),
        item("student/fp16/2x64", 1),
    )
    found = paired(a, b)
    assert [(pair.a.source, pair.b.source, pair.change_bytes) for pair in found.pairs] == [
        ("measured", "measured", 5 * MIB),
        ("predicted", "predicted", MIB),
    ]
    assert [one.name for one in found.only_a] == ["student/fp16/4x32"]
    assert [one.name for one in found.only_b] == ["student/fp16/2x64"]


def test_one_is_chosen_by_name_or_stage_and_an_unknown_one_gets_the_nearest() -> None:
    a = side(item("student/fp16/8x16", 1), item("student/fp16/4x32", 1))
    assert len(paired(a, a, "student/fp16/4x32").pairs) == 1
    with pytest.raises(UserError, match="Did you mean student/fp16/8x16"):
        paired(a, a, "student/fp16/8x15")


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (item("s", 5), item("s", 5), "the same: 5.00 → 5.00 MiB reserved (predicted)"),
        (item("s", 5), item("s", 7), "B needs 2.00 MiB more: 5.00 → 7.00"),
        (item("s", 7), item("s", 5), "B needs 2.00 MiB less: 7.00 → 5.00"),
        (item("s", 7), item("s", 5, source="measured"), "(A predicted, B measured)"),
        (item("s", 7), item("s", None, outcome="oom"), "B ended as oom: no peak to compare"),
        (item("s", 7), item("s", None), "not known: a peak is missing"),
        (
            item("s", 7, breakdown={"weights": 1}),
            item("s", 7, breakdown={"gradients": 1}),
            "the same reserved, made up otherwise",
        ),
    ],
)
def test_the_verdict_says_what_b_needs_and_of_what_kind_the_numbers_are(
    a: DiffItem, b: DiffItem, words: str
) -> None:
    assert words in pair_verdict(DiffPair(a, b))


# -- files


@pytest.mark.slow
def test_a_planted_mistake_is_told_by_owner_and_op(tmp_path: Path) -> None:
    clean = predict(WHOLE)
    with copies_of_the_gradients():
        planted = predict(WHOLE)
    then, now = tmp_path / "then.json", tmp_path / "now.json"
    write_baseline(then, baseline(clean, replace(clean, name="student/fp16/256x2")))
    write_baseline(now, baseline(planted, replace(clean, name="student/fp16/256x2"), torch="9"))
    result = asked(then, now)
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()[0]
    assert first.startswith("2 configurations on both sides: 1 the same, 1 differ; most")
    assert f"torch {version('torch')} → 9" in result.output and "temporaries" in result.output
    result = asked(then, now, "--cell", clean.name)
    (line,) = [line for line in result.output.splitlines() if line.startswith("clone")]
    assert "temporaries" in line and "+0.39" in line
    compared = CliRunner().invoke(main, ["compare", str(then), str(now)])
    assert compared.exit_code == 1
    assert compared.output.startswith("worse: student/fp16/512x1 by")
    assert "of temporaries (clone)" in compared.output.splitlines()[0]


def test_two_profiles_are_compared_by_stage_and_their_machines_are_told() -> None:
    verified = ROOT / "results" / "evidence" / "h100" / "rtx4050-verification.profile.json"
    result = asked(verified, PROFILE)
    assert result.exit_code == 0
    assert result.output.startswith("3 configurations on both sides: 3 the same")
    assert "driver 580.159.04 → none, status verified → predicted" in result.output


def test_profiles_that_differ_show_the_owner_that_moved_most(tmp_path: Path) -> None:
    profile = read_profile(PROFILE)
    first, *others = profile.choices
    more = {**first.breakdown, "temporaries": first.breakdown["temporaries"] + 7 * MIB}
    peak = first.peak_reserved_bytes + 7 * MIB
    changed = first.model_copy(update={"breakdown": more, "peak_reserved_bytes": peak})
    other = tmp_path / "other.json"
    write_profile(other, profile.model_copy(update={"choices": (changed, *others)}))
    lines = asked(PROFILE, other).output.splitlines()
    assert "2 the same, 1 differ; most teacher/bf16/32x4: B needs 7.00 MiB more" in lines[0]
    (row,) = [line for line in lines if line.startswith("teacher/")]
    assert "+7.00" in row and "temporaries" in row and "predicted" in row
    assert lines[-1] == "Next: --cell teacher/bf16/32x4 shows this one in detail."


def test_what_only_one_side_has_is_told_also_where_one_pair_is_left() -> None:
    result = asked(PROFILE, ROOT / "results" / "baseline" / "memory.json")
    assert result.output.startswith("the same: 3,612.00 → 3,612.00 MiB reserved (predicted)")
    assert "Only A has 2: assistant/bf16/128x1, student/bf16/128x1" in result.output
    assert "Only B has 53: " in result.output


def test_a_journal_shows_the_last_trial_of_each_and_how_it_ended(
    tmp_path: Path, make_trial
) -> None:
    def written(name: str, *trials: Trial) -> Path:
        journal = Journal(tmp_path / name)
        journal.add(trials)
        return journal.path

    seconds = {"measured": True}
    a = written("a.jsonl", make_trial(100), make_trial(200), make_trial(50, batch=16, **seconds))
    failed = replace(make_trial(60, batch=16, **seconds), outcome="oom")
    b = written("b.jsonl", make_trial(260), failed)
    result = asked(a, b)
    assert result.exit_code == 0, result.output
    assert "200.00" in result.output and "+60.00" in result.output
    (row,) = [line for line in result.output.splitlines() if "oom" in line and "16x8" in line]
    assert "– (oom)" in row and "measured" in row


def test_old_journals_and_baselines_are_read() -> None:
    journal = ROOT / "tests" / "old_files" / "trials.jsonl.gz"
    assert len(read_side(journal).items) == 216
    result = asked(journal, journal)
    assert result.output.startswith("216 configurations on both sides: 216 the same")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", "[]", "holds no configurations that are known here"),
        ("a.json", '{"choices": 1}', "is no profile: it has no schema_version"),
        ("a.json", '{"cells": 1}', "is no baseline: it has no schema"),
        ("a.json", '{"peak_reserved_bytes": 1}', "Make it again: bench predict --json"),
        ("a.jsonl", "", "holds no trial"),
        ("a.jsonl.gz", "no gzip", "Cannot read journal"),
    ],
)
def test_what_is_no_such_file_is_one_sentence(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    result = asked(path, PROFILE)
    assert result.exit_code == 2 and words in result.output
    assert len(result.output.splitlines()) == 1


def test_a_picture_of_several_is_refused(tmp_path: Path) -> None:
    result = asked(PROFILE, PROFILE, "--plot", tmp_path / "two.png")
    assert result.exit_code == 2 and "Choose one with --cell NAME." in result.output
    result = asked(PROFILE, PROFILE, "--plot", tmp_path / "two.txt")
    assert result.exit_code == 2 and "must end in .png" in result.output


# -- configurations, predicted


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    yield str(path)


@pytest.mark.slow
def test_two_configurations_are_told_by_setting_owner_and_op(small: str, tmp_path: Path) -> None:
    picture = tmp_path / "two.png"
    pair = ("student/fp16/64", "student/fp16+ckpt/32", "--recipe", small)
    result = asked(*pair, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "They differ in: micro batch 64 → 32; accumulation 1 → 2; checkpointing 0 → 1." in (
        result.output
    )
    assert "ops that differ where most is requested (predicted)" in result.output
    assert "student.blocks.*" in result.output and "images/s: " in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    document = json.loads(asked(*pair, "--json").stdout)
    schema = schema_of(FORMS["diff"])
    assert problems(schema, document, schema) == []
    (both,) = document["pairs"]
    change = both["b"]["reserved_bytes"] - both["a"]["reserved_bytes"]
    assert both["change_bytes"] == change == sum(both["owners"].values())
    ops = sum(row["b_bytes"] - row["a_bytes"] for row in document["ops"])
    assert ops == change - both["owners"].get("allocator_slack", 0)


def test_an_answer_of_bench_predict_is_the_configuration_that_it_is_of(
    small: str, tmp_path: Path
) -> None:
    words = ("predict", "--recipe", small, "--stage", "student", "--batch-size", "64", "--json")
    path = tmp_path / "answer.json"
    path.write_text(CliRunner().invoke(main, [*words, "--precision", "fp16"]).stdout)
    result = asked(path, "student/fp16/64", "--recipe", small)
    assert result.exit_code == 0, result.output
    assert (
        result.output.startswith("the same: ") and "Their settings are the same." in result.output
    )


def test_numbers_that_are_predicted_otherwise_today_are_not_explained_by_todays_ops(
    small: str, tmp_path: Path
) -> None:
    words = ("predict", "--recipe", small, "--stage", "student", "--batch-size", "64", "--json")
    answer = json.loads(CliRunner().invoke(main, [*words, "--precision", "fp16"]).stdout)
    answer["peak_reserved_bytes"] += 2 * MIB
    answer["breakdown"]["temporaries"] += 2 * MIB
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(answer))
    result = asked(path, "student/fp16/64", "--recipe", small)
    assert result.output.startswith("B needs 2.00 MiB less")
    assert "A is predicted otherwise today" in result.output
    assert "So ops are not compared." in result.output and "\nop " not in result.output


def test_both_timelines_have_one_scale_and_say_which_they_are(small: str) -> None:
    predictors, recipe, target = Predictors(), load_recipe(small), target_named("rtx4050")
    again = []
    for name in ("student/fp16/64x1", "student/fp16/16x4"):
        one = predictors.side_of(name, recipe, target, "expandable")
        again.append(predictors.again(one.items[0], one))
    assert all(one is not None for one in again)
    figure = two_timelines(*again)
    figure.draw_without_rendering()
    above, below = figure.axes
    assert above.get_ylim() == below.get_ylim()
    assert above.get_ylim()[1] > max(one.run.reserved for one in again) / MIB
    assert above.get_title("left").startswith("A: ") and "64 × 1" in above.get_title("left")
    assert below.get_title("left").startswith("B: ") and "predicted" in below.get_title("left")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(words) == len(set(words)) and "reserved" in words
