"""`bench evidence`: all that a GPU can tell, in one bounded run. Parses, calls and prints."""

import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import click

from distill.base.console import Number, at_most_one, taking


@dataclass(frozen=True, kw_only=True)
class EvidenceOptions:
    """The command line of `bench evidence`."""

    minutes: float
    out: Path
    profile_path: Path
    recipe_name: str | None
    dry_run: bool
    tables: bool


@click.command()
@click.option("--minutes", type=Number(above=0, at_most=120, unit=" minutes"),
              default=9.0, show_default=True, help="Be done by then.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Where the files go.")  # fmt: skip
@click.option("--profile", "profile_path", type=click.Path(path_type=Path),
              default=Path("profiles/rtx4050.json"), show_default=True, metavar="FILE",
              help="The profile to verify and to time.")  # fmt: skip
@click.option("--recipe", "recipe_name", metavar="NAME|FILE",
              help="What the profile was made for, where that is a file's recipe.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="The same way on the CPU, with tiny models.")
@click.option("--tables", is_flag=True,
              help="Measure nothing; print the tables of what is in DIR.")  # fmt: skip
@taking(EvidenceOptions)
def evidence(options: EvidenceOptions) -> None:
    """On a GPU: everything that needs one, in one bounded run."""
    at_most_one({"--dry-run": options.dry_run, "--tables": options.tables})
    began = monotonic()  # before the imports, which count towards the minutes
    from bench.evidence.evidence import gather, show_tables  # loads torch, which help must not

    if options.tables:
        show_tables(options.out)
        return
    sys.exit(0 if gather(options, began) else 1)
