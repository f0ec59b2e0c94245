"""`distill predict`: what a trained model says of images."""

import json
from pathlib import Path

import click

from distill.base.console import OneOf
from distill.base.errors import UserError
from distill.spec.bounds import MOST_CLASSES
from distill.spec.candidate import STAGES, StageName

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_PATH, metavar="RUN")
@click.argument("images", nargs=-1, type=_PATH, metavar="IMAGE…")
@click.option("--stage", type=OneOf(STAGES), default="student", show_default=True,
              help="Whose best checkpoint.")  # fmt: skip
@click.option("--top", type=click.IntRange(1, MOST_CLASSES), metavar="N",
              help="Classes an image. Default: 3 in a table, all in JSON.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--device", type=OneOf(["auto", "cuda", "cpu"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
def predict(
    folder: Path,
    images: tuple[Path, ...],
    stage: StageName,
    top: int | None,
    as_json: bool,
    device: str,
) -> None:
    """Say what a stage's best checkpoint takes images for: classes with their probabilities.

    RUN is the folder of a run, as in results/from_scratch/digits; IMAGE is a file, or a folder
    with all images below it. They are made ready as the images of the training were.
    """
    if not images:
        raise UserError("Name at least one image, or a folder with some, after the run.")
    # loads torch, which help must not
    from distill.report.image_answers import answers_document, answers_text, ask_about

    answers = ask_about(folder, stage, images, device)
    if as_json:
        click.echo(json.dumps(answers_document(answers, top), indent=2))
    else:
        click.echo(answers_text(answers, top))
