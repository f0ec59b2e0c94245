"""`distill evaluate`: the tests of a finished run once more."""

from pathlib import Path

import click

from distill.base.console import fail
from distill.cli.run_argument import run_argument


@click.command()
@run_argument
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"),
              show_default=True, metavar="DIR",
              help="Where downloaded data sets are kept.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto",
              show_default=True, help="Where to evaluate.")  # fmt: skip
def evaluate(folder: Path | None, data_dir: Path, device: str) -> None:
    """Repeat the test of each stage's best checkpoint, beside the run's own numbers.

    RUN is the folder of a run, as in results/from_scratch/digits; it may be left out where
    results/ holds one run. Exit code 1: a number is not the run's own.
    """
    # loads pydantic, which help must not
    from distill.report.found_run import find_run, same_scores, scores_text

    found = find_run(folder)
    from distill.report.retest import retest  # loads torch, which takes seconds: after the check

    pairs = retest(found, data_dir, device)
    click.echo(scores_text(pairs))
    if not all(same_scores(*pair) for pair in pairs):
        fail("These are not the run's own numbers; another device rounds otherwise.", 1)
