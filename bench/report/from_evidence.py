"""The parts of a report that hold for any run: the audit, recordings of cards, the machine."""

from collections.abc import Mapping
from pathlib import Path

from bench.audit.audit import audit_rows, find_all, tally_text
from bench.audit.measured import recorded_peaks
from bench.card.targets import target_line
from bench.doctor.doctor import report as doctor_report
from bench.evidence.comparison import compare_all, error_rows, error_summary, recordings_in
from bench.report.from_profile import GivenProfile
from bench.report.parts import ReportPart, ReportTable
from distill.report.found_run import FoundRun
from distill.report.tables import Row
from distill.spec.recipe import load_recipe
from distill.train.run_folder import read_manifest

AUDITED = "cifar10"
"""The recipe of the write-up's chain."""


def audit_part(evidence: Path, *, quick: bool) -> ReportPart:
    """Every figure of the write-up, held against."""
    title = "Audit of the write-up"
    if quick:
        return ReportPart(title=title, missing="Left out by --quick: bench audit prints it.")
    findings = find_all(load_recipe(AUDITED), recorded_peaks(evidence))
    return ReportPart(
        title=title,
        sentences=[tally_text(findings)],
        tables=[
            ReportTable(
                title="Claimed, predicted, measured",
                rows=audit_rows(findings),
                source=f"bench audit, recordings under {evidence}",
            )
        ],
    )


def recordings_part(evidence: Path, *, wanted: bool) -> ReportPart:
    """What cards recorded against today's prediction of it."""
    title = "Recordings of cards"
    files = recordings_in(evidence)
    count = sum(len(file.recordings) for file in files)
    if not count:
        return ReportPart(title=title, missing=f"No recording of a card lies under {evidence}.")
    if not wanted:
        return ReportPart(
            title=title,
            missing=f"{count} recordings lie under {evidence}. --recordings holds each against "
            "today's prediction, which takes minutes.",
        )
    judged = compare_all(files)
    return ReportPart(
        title=title,
        sentences=[error_summary(judged)],
        tables=[
            ReportTable(
                title="Predicted less recorded, and the most that is predicted",
                rows=error_rows(judged),
                source=f"{evidence}/**/*.json.gz; recorded, predicted by this version",
                folded=True,
            )
        ],
    )


def machine_part(run: FoundRun | None, given: GivenProfile | None) -> ReportPart:
    """The card that the numbers are for, the machine that trained, and the one that is here."""
    rows = [*_profile_rows(given), *_run_rows(run)]
    tables = [
        ReportTable(title="What the numbers hold for", rows=rows, source="as each row says")
    ]  # fmt: skip
    return ReportPart(
        title="The machine",
        sentences=["Below: the machine that this page was made on, as bench doctor finds it."],
        tables=tables if rows else [],
        plain_text=doctor_report(as_json=False)[0],
    )


def _profile_rows(given: GivenProfile | None) -> list[Row]:
    if given is None:
        return []
    profile, source = given.profile, str(given.path)
    mark = profile.fingerprint
    facts = {
        "card of the profile": target_line(profile.target),
        "status": profile.status,
        "measured on": mark.card,
        "driver": mark.driver,
        "torch": mark.torch,
        "timm": mark.timm,
        "allocator": profile.allocator,
    }
    return _rows(facts, source)


def _run_rows(run: FoundRun | None) -> list[Row]:
    if run is None:
        return []
    manifest = read_manifest(run.folder)
    facts = {f"{one.stage} trained on": one.device for one in run.results()}
    threads = None if manifest.threads is None else str(manifest.threads)
    data = {f"data: {name}": str(mark) for name, mark in (manifest.data or {}).items()}
    return _rows(facts | {"threads": threads} | data, f"{run.folder}/run.json, result.json")


def _rows(facts: Mapping[str, str | None], source: str) -> list[Row]:
    told = [(what, words) for what, words in facts.items() if words is not None]
    return [{"what": what, "found": words, "source": source} for what, words in told]
