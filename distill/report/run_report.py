"""The report of a run: tables and curves as files beside its stages, and printed."""

import shlex
from dataclasses import asdict
from pathlib import Path

import click

from distill.base.console import as_typed
from distill.base.files import write_text
from distill.report.curves import draw_curves
from distill.report.found_run import find_run, recorded_choices
from distill.report.tables import (
    accuracy_rows,
    as_csv,
    as_markdown,
    as_text,
    breakdown_records,
    breakdown_rows,
    time_rows,
)
from distill.spec.candidate import STAGES, StageName
from distill.spec.profile import Choice, Profile
from distill.train.run_folder import StageResult


def report_run(profile: Profile | None, folder: Path) -> None:
    """Write and print the scores so far, and the memory that the profile predicted for them.

    That of a card is not printed under a run without one.
    """
    found = find_run(folder)
    results = found.results()
    rows = accuracy_rows(results, found.titles)
    choices = [] if profile is None else recorded_choices(found, profile.target.title)
    write_text(folder / "accuracy.md", as_markdown(rows) + "\n")
    _write(folder, results, choices)
    scores = as_text(rows)
    click.echo(f"\nScores on the untouched test images\n\n{scores}")
    if times := time_rows(results):
        click.echo(f"\nWhere the time went\n\n{as_text(times)}")
    if profile is not None and choices and any(result.device == "cuda" for result in results):
        budget = as_text(breakdown_rows(choices))
        click.echo(f"\nMemory at the peak, predicted for {profile.target.title}\n\n{budget}")
    click.echo(f"\nFiles: {folder}/ (accuracy.md, curves.png, one folder a stage)")
    for line in _next(folder, results[-1].stage):
        click.echo(line)


def _next(folder: Path, stage: StageName) -> list[str]:
    """The commands that make something of a run, as they are to be typed."""
    place = shlex.quote(str(folder))
    return [
        f"Next: {as_typed('distill')} predict {place} --stage {stage} IMAGE",
        f"or, all of it as one page: {as_typed('bench')} report --run {place}",
    ]


def _write(folder: Path, results: list[StageResult], choices: list[Choice]) -> None:
    write_text(folder / "accuracy.csv", as_csv([asdict(result) for result in results]))
    if choices:
        write_text(folder / "budget.csv", as_csv(breakdown_records(choices)))
    logs = {stage: log for stage in STAGES for log in folder.glob(f"{stage}/logs/*_log.csv")}
    kept = {result.stage: result.best_epoch for result in results}
    draw_curves(folder / "curves.png", logs, kept)
