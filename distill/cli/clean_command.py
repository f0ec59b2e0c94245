"""`distill clean`: a run without what it no longer needs."""

from pathlib import Path

import click

from distill.cli.run_argument import run_argument


@click.command()
@run_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(folder: Path | None, dry_run: bool) -> None:
    """Remove what a run left behind and no longer needs; never a best or the latest checkpoint.

    Stale temporary files and superseded checkpoints, and the GPU's cached memory, shown before
    and after. Not while the run is training.
    """
    from distill.report.clean import clean_folder  # loads torch, which help must not

    click.echo(clean_folder(folder, dry_run=dry_run))
