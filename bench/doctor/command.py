"""`bench doctor`: the machine, each problem with its cure. Parses, calls and prints."""

import sys

import click

from bench.options import json_option
from distill.base.console import at_most_one


@click.command()
@json_option
@click.option("--brief", is_flag=True,
              help="At most one line on stderr, when no GPU can be used; never fails.")  # fmt: skip
def doctor(as_json: bool, brief: bool) -> None:
    """Look at the machine: each problem with its cure. Exit code 1 when there is one."""
    at_most_one({"--json": as_json, "--brief": brief})
    from bench.doctor.doctor import note, report  # loads NVML, which help must not

    if brief:
        line = note()
        if line is not None:
            click.echo(line, err=True)
        return
    text, is_well = report(as_json=as_json)
    click.echo(text)
    sys.exit(0 if is_well else 1)
