"""`bench report`: everything that is known of a run, on one page. Parses, calls and prints."""

from dataclasses import dataclass
from pathlib import Path

import click

from bench.options import evidence_option
from distill.base.console import loaded, taking

FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The command line of `bench report`; `None` is looked for."""

    run: Path | None
    profile: Path | None
    evidence: Path
    out: Path
    tables: Path | None
    quick: bool
    recordings: bool


@click.command()
@click.option("--run", type=FILE, metavar="RUN",
              help="A run's folder. Default: the only one below results/.")  # fmt: skip
@click.option("--profile", type=FILE, metavar="FILE",
              help="What was chosen. Default: the one in profiles/ that the run was trained "
                   "under.")  # fmt: skip
@evidence_option
@click.option("--out", type=FILE, default=Path("report.html"), show_default=True, metavar="FILE",
              help="The page: one HTML file with everything in it.")  # fmt: skip
@click.option("--tables", type=FILE, metavar="DIR",
              help="The same tables as Markdown, as JSON and as one CSV file each.")  # fmt: skip
@click.option("--quick", is_flag=True,
              help="Without what has to be predicted anew: timelines and the audit.")  # fmt: skip
@click.option("--recordings", is_flag=True,
              help="Hold every recording of a card against today's prediction, too. "
                   "It takes minutes.")  # fmt: skip
@taking(ReportOptions)
def report(options: ReportOptions) -> None:
    """Write a run, its profile and the evidence as one page, each number with its source."""
    for line in loaded("bench.report.whole:write_report")(options):
        click.echo(line)
