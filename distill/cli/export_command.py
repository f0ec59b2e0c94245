"""`distill export`: a stage's best model as a folder for timm."""

from pathlib import Path

import click

from distill.base.console import OneOf
from distill.cli.run_argument import run_argument
from distill.spec.candidate import STAGES, StageName


@click.command()
@run_argument
@click.option("--stage", type=OneOf(STAGES), default="student", show_default=True,
              help="Whose best checkpoint.")  # fmt: skip
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="A folder for model.safetensors and config.json.")  # fmt: skip
def export(folder: Path | None, stage: StageName, target: Path) -> None:
    """Write a stage's best model as a folder that timm reads back (`local-dir:DIR`)."""
    from distill.report.found_run import find_run  # loads pydantic, which help must not

    found = find_run(folder)
    from distill.report.export import export_stage  # loads torch, which takes seconds

    export_stage(found, stage, target)
    click.echo(
        f'Wrote {target}/. Read it: timm.create_model("local-dir:{target}", pretrained=True)'
    )
