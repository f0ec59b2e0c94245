"""The audit: every claim held against the prediction, as a table or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.audit.measured import Configuration, RecordedPeak, recorded_peaks
from bench.audit.rules import NEEDS_A_RUN, Auditor, Finding
from bench.card.targets import target_named
from bench.predict.claims import load_claims
from bench.simulate.predictor import Predictor
from distill.device.visible_devices import hide_devices
from distill.report.tables import Row, as_text
from distill.spec.recipe import Recipe
from distill.step.models import get_vit_model, parameter_count


def audit_text(recipe: Recipe, evidence: Path, *, as_json: bool) -> str:
    """The audit of the write-up for a recipe, as a table or as one JSON document.

    What was measured is taken from the recordings under the folder `evidence`.
    """
    findings = find_all(recipe, recorded_peaks(evidence))
    return findings_text(findings, as_json=as_json)


def find_all(recipe: Recipe, recorded: Mapping[Configuration, RecordedPeak]) -> list[Finding]:
    """The findings for every claim, predicted for the card that the write-up names."""
    hide_devices()
    predictor = Predictor(target_named("rtx4050"), "expandable")
    auditor = Auditor(recipe, predictor.predict, _parameters, recorded)
    return [auditor.find(claim) for claim in load_claims()]


def _parameters(model: str, classes: int) -> int:
    """Numbers that a model learns; it is built without them."""
    with torch.device("meta"):
        return parameter_count(get_vit_model(model, classes))


def audit_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as one JSON document."""
    return {"claims": [asdict(finding) for finding in findings]}


def audit_rows(findings: Sequence[Finding]) -> list[Row]:
    """The findings as a table."""
    return [
        {
            "claim": finding.subject,
            "claimed": _number(finding.claimed, finding.unit),
            "predicted": _number(finding.predicted, finding.unit),
            "measured": _number(finding.measured, finding.unit),
            "verdict": finding.verdict,
            "because": finding.note + _measured_where(finding),
        }
        for finding in findings
    ]


def findings_text(findings: Sequence[Finding], *, as_json: bool) -> str:
    """The audit as a table, or as one JSON document."""
    if as_json:
        return json.dumps(audit_document(findings), indent=2)
    return f"{as_text(audit_rows(findings))}\n\n{tally_text(findings)}"


def tally_text(findings: Sequence[Finding]) -> str:
    """How many figures hold, in one line."""
    held = sum(finding.verdict == "holds" for finding in findings)
    open_ = sum(finding.verdict == NEEDS_A_RUN for finding in findings)
    return (
        f"{len(findings)} figures: {held} hold within ±10 %, "
        f"{len(findings) - held - open_} do not, {open_} need a run."
    )


def _measured_where(finding: Finding) -> str:
    return "" if finding.evidence is None else f"; measured: {finding.evidence}"


def _number(value: float | tuple[float, float] | None, unit: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return "–".join(f"{part:g}" for part in value) + f" {unit}"
    if unit == "fraction":
        return f"{value:.0%}"
    if unit == "ratio":
        return f"{value:.1f}×"
    if unit == "parameters":
        return f"{value / 1e6:.1f} M"
    return f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}"
