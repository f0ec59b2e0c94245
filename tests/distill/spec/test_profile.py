"""The profile: written and read back, and one sentence for each that is none."""

import json
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.spec.profile import read_profile, write_profile


def test_a_profile_reads_back_as_it_was_written(rtx4050_profile, tmp_path: Path) -> None:
    write_profile(tmp_path / "copy.json", rtx4050_profile)
    assert read_profile(tmp_path / "copy.json") == rtx4050_profile


def test_writing_it_again_changes_no_byte(rtx4050_profile, rtx4050_path, tmp_path: Path) -> None:
    write_profile(tmp_path / "copy.json", rtx4050_profile)
    assert (tmp_path / "copy.json").read_bytes() == rtx4050_path.read_bytes()


def test_the_budgets_arithmetic_is_right(rtx4050_profile) -> None:
    b = rtx4050_profile.budget
    spent = b.context_bytes + b.desktop_bytes + b.margin_bytes
    assert b.limit_bytes == b.card_total_bytes - spent


def test_each_breakdown_sums_to_its_peak_and_stays_below_the_limit(rtx4050_profile) -> None:
    for choice in rtx4050_profile.choices:
        assert sum(choice.breakdown.values()) == choice.peak_reserved_bytes
        assert choice.peak_reserved_bytes <= rtx4050_profile.budget.limit_bytes
        assert choice.source == "predicted"


def test_a_predicted_profile_names_no_host_and_no_time(rtx4050_profile) -> None:
    assert rtx4050_profile.status == "predicted"
    fingerprint = rtx4050_profile.fingerprint
    assert (fingerprint.card, fingerprint.driver, rtx4050_profile.verification) == (None,) * 3


def spoiled(source: Path, target: Path, change) -> Path:
    document = json.loads(source.read_text())
    change(document)
    target.write_text(json.dumps(document))
    return target


def candidate_with(**values):
    return lambda document: document["choices"][0]["candidate"].update(values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(schema_version=99), "has schema version 99; this program reads 1"),
        (lambda d: d.pop("schema_version"), "is no profile: it has no schema_version"),
        (lambda d: d.pop("budget"), "budget is missing"),
        (lambda d: d.update(choices=[]), r"choices = \[\] is not possible"),
        (lambda d: d["budget"].update(limit_bytes=-1), "budget.limit_bytes = -1 is not possible"),
        (lambda d: d["choices"][0]["candidate"].pop("student"), "candidate.student is missing"),
        (lambda d: d.update(surprise=1), "surprise is not a known key"),
        (lambda d: d["budget"].update(limit_bytes=1), "budget: limit_bytes = 1 is not card_total"),
        (
            lambda d: d["budget"].update(margin_bytes=0),
            "is not card_total_bytes less",
        ),
        (lambda d: d["budget"].update(nominal_gib="6"), "budget.nominal_gib = '6' is not possible"),
        (candidate_with(evaluation_batch=-1), "candidate.evaluation_batch = -1 is not possible"),
        (candidate_with(micro_batch=-1, accumulation=-64), "micro_batch = -1 is not possible"),
        (candidate_with(micro_batch=32.0), "candidate.micro_batch = 32.0 is not possible"),
        (candidate_with(micro_batch=True), "candidate.micro_batch = True is not possible"),
        (candidate_with(micro_batch=10**400), "holds choices.0.candidate.micro_batch = 10{39}…, a"),
        (candidate_with(stage="student"), "choices.0: it is for stage teacher, its candidate for"),
        (
            lambda d: d["choices"][0].update(images_per_second=1e999),
            "per_second = inf, which",
        ),
        (lambda d: d["choices"][0]["breakdown"].pop("weights"), "breakdown: weights is missing"),
        (lambda d: d["choices"][0]["breakdown"].update(mine=0), "breakdown: mine is too much"),
        (lambda d: d["choices"][0]["breakdown"].update(weights=0), "but its breakdown sums to"),
        (lambda d: d["choices"][0].update(breakdown=None), "breakdown = None is not possible"),
        (lambda d: d.update(name="\ud800"), r"name = '\\ud800', half of a character"),
        (lambda d: d.update(name="x" * 10**6, status=1), r"status = 1 is not possible"),
        (lambda d: d.update(status="x" * 10**6), r"status = 'x+\.\.\.x+' is not possible"),
        (lambda d: d.update(choices=d["choices"] * 2), "a stage has more than one choice"),
        (lambda d: d["pins"].pop("teacher"), "a stage has a choice and no pins"),
        (lambda d: d["pins"]["teacher"].update(allocator="native"), "have different allocators"),
        (lambda d: d["pins"]["teacher"].update(cublas_workspace_config=":a"), "config = ':a'"),
        (lambda d: d["target"].update(compute_capability=[8]), "target.compute_capability.1 is"),
    ],
)
def test_what_is_no_profile_is_one_sentence(rtx4050_path, tmp_path, change, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        read_profile(spoiled(rtx4050_path, tmp_path / "profile.json", change))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "is no profile: it has no schema_version"),
        ('{"schema_version": ' + "[" * 1000 + "]" * 1000 + "}", "is nested more than 32 deep"),
        ("9" * 5000, "is not JSON: Exceeds the limit"),
    ],
)
def test_what_is_not_even_json_is_one_sentence(tmp_path: Path, content, sentence) -> None:
    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_profile(tmp_path / "profile.json")


def test_a_profile_that_is_not_there_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Make one: bench probe --vram 6"):
        read_profile(tmp_path / "none.json")
