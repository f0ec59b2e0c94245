"""`bench compare`: memory regression without a GPU. Parses, calls and prints."""

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from bench.options import json_option, recipe_option
from distill.base.console import Number, at_most_one, taking
from distill.spec.bounds import MOST_TOLERANCE_PERCENT

BASELINE = Path("results/baseline/memory.json")
TOLERANCE = Number(at_least=0, at_most=MOST_TOLERANCE_PERCENT, unit=" %")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The command line of `bench compare`. Without a `current_path` the cells are predicted."""

    baseline_path: Path
    current_path: Path | None
    recipe_name: str
    target_name: str
    tolerance: float
    markdown: bool
    as_json: bool
    html: Path | None
    limit_texts: tuple[str, ...]
    metrics: Path | None
    bencher: Path | None
    update: bool


@click.command()
@click.argument("baseline_path", type=click.Path(path_type=Path), default=BASELINE,
                metavar=f"[BASELINE={BASELINE}]")  # fmt: skip
@click.argument("current_path", type=click.Path(path_type=Path), required=False,
                metavar="[CURRENT]")  # fmt: skip
@recipe_option
@click.option("--target", "target_name", default="rtx4050", show_default=True, metavar="NAME")
@click.option("--tolerance", type=TOLERANCE, default=0.0, metavar="PCT",
              help="How far a peak may move, in percent. Default: not at all.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="As Markdown, at most 60,000 characters long.")
@json_option
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the comparison as one page, too.")  # fmt: skip
@click.option("--limit", "limit_texts", multiple=True, metavar="[CELLS=]SIZE",
              help="At most so much reserved memory: teacher=5GiB, '*/fp16/8x*=4GiB', or 5GiB for "
              "every cell. Limits alone then decide the exit code. May be repeated.")  # fmt: skip
@click.option("--metrics", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the cells for github-action-benchmark, too.")  # fmt: skip
@click.option("--bencher", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the cells in the Bencher Metric Format, too.")  # fmt: skip
@click.option("--update", is_flag=True, help="Write the baseline anew and say what changed.")
@taking(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Predict the baseline's cells again and compare: memory regression without a GPU.

    Exit code 0: the same. 1: something is worse or missing. 5: nothing is worse, something is
    better or new, so the baseline is stale. With --limit 4: a cell is above its limit, 0: none is.
    CURRENT compares with a file instead of predicting.
    """
    at_most_one({"--json": options.as_json, "--markdown": options.markdown})
    from bench.compare.gate import run_gate  # loads pydantic, which help must not

    sys.exit(run_gate(options))
