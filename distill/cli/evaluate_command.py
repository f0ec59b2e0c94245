"""`distill evaluate`: the tests of a finished run once more, or its scores on other images."""

from dataclasses import dataclass
from pathlib import Path

import click

from distill.base.console import OneOf, fail, taking
from distill.base.errors import UserError
from distill.cli.run_argument import run_argument
from distill.spec.candidate import STAGES, StageName


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The command line of `distill evaluate`."""

    folder: Path | None
    stage: StageName | None
    dataset: str | None
    skip_unreadable: bool
    to: Path | None
    data_dir: Path
    device: str


@click.command()
@run_argument
@click.option("--stage", type=OneOf(STAGES), help="One stage. Default: every finished one.")
@click.option("--dataset", metavar="NAME",
              help="Other images: folder:DIR, csv:FILE, or a set of the same classes.")  # fmt: skip
@click.option("--skip-unreadable", is_flag=True,
              help="With --dataset: leave images out that can't be read.")  # fmt: skip
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR",
              help="Write scores by class and confusion, a folder a stage.")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"),
              show_default=True, metavar="DIR",
              help="Where downloaded data sets are kept.")  # fmt: skip
@click.option("--device", type=OneOf(["auto", "cuda", "cpu"]), default="auto",
              show_default=True, help="Where to evaluate.")  # fmt: skip
@taking(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Repeat the test of each stage's best checkpoint, beside the run's own numbers.

    RUN is the folder of a run, as in results/from_scratch/digits; it may be left out where
    results/ holds one run. Exit code 1: a number is not the run's own. With --dataset the stages
    are scored on other images instead, of one folder a class or in a list.
    """
    if options.skip_unreadable and options.dataset is None:
        raise UserError("--skip-unreadable is for --dataset; a run's own test stays as it was.")
    # loads pydantic, which help must not
    from distill.report.found_run import find_run

    found = find_run(options.folder)
    # loads torch, which takes seconds: after the check
    from distill.cli.start_evaluation import evaluate_again, evaluate_elsewhere

    if options.dataset is not None:
        evaluate_elsewhere(found, options.dataset, options)
    elif not evaluate_again(found, options):
        fail("These are not the run's own numbers; another device rounds otherwise.", 1)
