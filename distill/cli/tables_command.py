"""`distill tables`: a run's tables, from its files."""

from pathlib import Path

import click

from distill.cli.run_argument import run_argument


@click.command()
@run_argument
def tables(folder: Path | None) -> None:
    """Print a run's tables: scores and memory by stage, from its files."""
    # loads pydantic, which help must not
    from distill.report.found_run import find_run, tables_text

    click.echo(tables_text(find_run(folder)))
