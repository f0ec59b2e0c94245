"""`bench doctor`: the machine, each problem with its cure. Parses, calls and prints."""

import sys

import click

from bench.options import json_option


@click.command()
@json_option
@click.option("--brief", is_flag=True,
              help="At most one line on stderr, when no GPU can be used; never fails.")  # fmt: skip
def doctor(as_json: bool, brief: bool) -> None:
    """Look at the machine: each problem with its cure. Exit code 1 when there is one."""
    # NVML and tables, which help must not load
    from bench.doctor.facts import quick_facts, whole_facts, written_folders
    from bench.doctor.problems import doctor_text, gpu_problem, problems

    if brief:
        problem = gpu_problem(quick_facts())
        if problem is not None:
            click.echo(f"Note: {problem}", err=True)
        return
    facts = whole_facts(written_folders())
    click.echo(doctor_text(facts, as_json=as_json))
    sys.exit(1 if problems(facts) else 0)
