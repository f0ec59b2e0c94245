"""The two ways of `distill evaluate`: a run's own test again, or its scores on other images.

Loads torch.
"""

from pathlib import Path

import click

from distill.base.errors import UserError
from distill.base.files import ensure_folder
from distill.cli.evaluate_command import EvaluateOptions
from distill.report.class_report import class_text, write_class_report
from distill.report.found_run import FoundRun, same_scores, scores_text
from distill.report.retest import retest
from distill.report.scores_elsewhere import elsewhere_text, score_elsewhere
from distill.spec.image_source import safe_name
from distill.train.class_scores import ClassScores
from distill.train.run_folder import StageResult


def evaluate_again(run: FoundRun, options: EvaluateOptions) -> bool:
    """Repeat the run's test and print it; true if every number is the run's own."""
    _check_apart(run, options.to)
    found = retest(run, options.data_dir, options.device, options.stage)
    click.echo(scores_text([(one.then, one.now) for one in found]))
    data = safe_name(run.recipe.dataset)
    for one in found:
        _write(options.to, one.now, one.classes, f"test images of {data}")
    return all(same_scores(one.then, one.now) for one in found)


def evaluate_elsewhere(run: FoundRun, name: str, options: EvaluateOptions) -> None:
    """Score the run's stages on the images of `name`, and print that, by class too."""
    _check_apart(run, options.to)
    found = score_elsewhere(
        run,
        name,
        options.data_dir,
        options.device,
        stage=options.stage,
        skip_unreadable=options.skip_unreadable,
    )
    click.echo(elsewhere_text(found))
    for one in found:
        click.echo(f"\n{one.result.stage}, {one.result.model}\n\n{class_text(one.classes)}")
        _write(options.to, one.result, one.classes, safe_name(name))


def _check_apart(run: FoundRun, to: Path | None) -> None:
    """Refuse to write over what the run wrote of its own test, and where nothing can be written."""
    if to is None:
        return
    if to.resolve() == run.folder.resolve():
        raise UserError(f"{to} is the run's own folder. Name another with --to.")
    ensure_folder(to)


def _write(to: Path | None, result: StageResult, found: ClassScores, images: str) -> None:
    if to is not None:
        folder = to / result.stage
        write_class_report(folder, found, f"{result.stage}, {result.model}: {images}")
        click.echo(f"Wrote {folder}/ (classes.md, classes.csv, confusion.csv, confusion.png)")
