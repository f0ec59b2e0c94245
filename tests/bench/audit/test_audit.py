"""The audit: every claim gets a verdict, and each verdict follows from its numbers."""

import json

import pytest
from click.testing import CliRunner

from bench import cli
from bench.audit.rules import NEEDS_A_RUN, Answer, claim_verdict
from bench.predict.claims import Claim, load_claims
from tests.conftest import ROOT


def claim(value, unit="GB") -> Claim:
    return Claim("x", "something", value, unit)


@pytest.mark.parametrize(
    ("value", "predicted", "words"),
    [
        (1.0, 1.0, "holds"),
        (1.1, 1.0, "holds"),
        (0.9, 1.0, "holds"),
        (1.11, 1.0, "too high by 1.1×"),
        (0.5, 1.0, "too low by 2.0×"),
        ((8.0, 9.0), 8.5, "holds"),
        ((8.0, 9.0), 7.5, "holds"),
        ((8.0, 9.0), 2.0, "too high by 4.0×"),
        ((8.0, 9.0), 18.0, "too low by 2.0×"),
        (1.0, None, NEEDS_A_RUN),
    ],
)
def test_a_verdict_follows_from_the_two_numbers(value, predicted, words) -> None:
    assert claim_verdict(claim(value), Answer(predicted, "")) == words


def test_a_saving_of_which_nothing_is_predicted_is_too_high() -> None:
    assert claim_verdict(claim(0.5), Answer(0.0, "")) == "too high: nothing of it is predicted"


def test_a_mere_hint_decides_nothing() -> None:
    assert claim_verdict(claim(8.0), Answer(2.0, "", decides=False)) == NEEDS_A_RUN


@pytest.fixture(scope="module")
def findings() -> dict[str, dict]:
    result = CliRunner().invoke(
        cli.main, ["audit", "--json", "--evidence", str(ROOT / "results" / "evidence")]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    return {finding["id"]: finding for finding in document["claims"]}


def test_every_claim_is_audited(findings) -> None:
    assert list(findings) == [one.id for one in load_claims()] and len(findings) == 33
    for finding in findings.values():
        assert {"id", "claimed", "predicted", "measured", "ratio", "verdict"} <= set(finding)
        assert finding["verdict"]


@pytest.mark.parametrize(
    ("name", "reserved_bytes", "file"),
    [
        ("peak.vit_base.bs8", 1_769_996_288, "h100/golden-again.json.gz"),
        ("peak.vit_small.bs16", 840_957_952, "h100/golden-again.json.gz"),
        ("peak.vit_tiny.bs32", 394_264_576, "h100/golden.json.gz"),
        ("peak.vit_base.bs8.plain", 2_063_597_568, "h200/write-up.json.gz"),
    ],
)
def test_what_a_card_recorded_is_measured_and_names_its_file(
    findings, name: str, reserved_bytes: int, file: str
) -> None:
    finding = findings[name]
    assert finding["measured"] == reserved_bytes / 2**30
    assert finding["evidence"].endswith(file)
    assert "NVIDIA H" in finding["evidence"]


def test_nothing_else_is_called_measured(findings) -> None:
    others = [one for one in findings.values() if not one["id"].startswith("peak.")]
    assert {one["measured"] for one in others} == {None}
    assert {one["evidence"] for one in others} == {None}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("params.vit_base", "holds"),
        ("params.vit_tiny", "holds"),
        ("params.resnet18", "holds"),
        ("budget.weights", "holds"),
        ("budget.optimizer", "holds"),
        ("peak.vit_base.bs8", "too high by 3"),
        ("peak.vit_base.bs8.plain", "too high by 4"),
        ("budget.gradients", "too high by 2"),
        ("budget.activations", "too high by 3"),
        ("effect.checkpointing.memory", "too high by"),
        ("fp16_size.vit_base", "too high by 2"),
        ("time.teacher", "too low by"),
        ("time.student", NEEDS_A_RUN),
        ("effect.amp.speed", NEEDS_A_RUN),
        ("acc.scratch.student", NEEDS_A_RUN),
    ],
)
def test_the_verdicts(findings, name: str, words: str) -> None:
    assert findings[name]["verdict"].startswith(words)


def test_an_effect_is_shown_as_a_range_over_batches(findings) -> None:
    assert "over batches 4–64" in findings["effect.checkpointing.memory"]["note"]
    assert 0 < findings["effect.checkpointing.memory"]["predicted"] < 0.4


@pytest.mark.slow
def test_the_table_ends_with_a_count() -> None:
    result = CliRunner().invoke(cli.main, ["audit"])
    assert "33 figures:" in result.output.splitlines()[-1]


@pytest.mark.parametrize("command", ["audit", "models", "report"])
def test_a_folder_of_evidence_that_is_named_must_be_there(command: str) -> None:
    result = CliRunner().invoke(cli.main, [command, "--evidence", "nowhere"])
    assert result.exit_code == 2 and "There is no folder nowhere" in result.output
