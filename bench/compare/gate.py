"""Holds cells against the baseline, prints the differences and decides the exit code."""

from pathlib import Path

import click

from bench.card.targets import target_named
from bench.compare.baseline import (
    Baseline,
    check_question,
    check_versions,
    read_baseline,
    write_baseline,
)
from bench.compare.command import CompareOptions
from bench.compare.compare import compare_cells
from bench.compare.compare_page import page_writer
from bench.compare.compare_text import Compared, compare_json, compare_markdown, compare_text, plain
from distill.base.errors import UserError
from distill.base.files import check_output
from distill.spec.recipe import load_recipe


def run_gate(options: CompareOptions) -> int:
    """Compare, print, and with `update` write the baseline anew; the exit code."""
    path = options.baseline_path
    if options.update:
        check_output(path)
    write_page = None if options.html is None else page_writer(options.html)
    old = None if options.update and not path.exists() else read_baseline(path)
    new = _current(options, old)
    differences = compare_cells(
        old.cells if old else (), new.cells, tolerance_percent=options.tolerance
    )
    found = Compared(before=old, after=new, differences=differences, updated=options.update)
    click.echo(_shown(found, options))
    if write_page is not None:
        click.echo(write_page(found), err=True)
    if options.update:
        write_baseline(path, new)
        click.echo(f"Wrote {path}.", err=True)
        return 0
    return found.exit_code


def _shown(found: Compared, options: CompareOptions) -> str:
    if options.as_json:
        return compare_json(found)
    return compare_markdown(found) if options.markdown else compare_text(found)


def _current(options: CompareOptions, old: Baseline | None) -> Baseline:
    """The cells of today, from a file or predicted. Raises `UserError` for another question."""
    path = options.baseline_path
    if options.current_path is not None:
        new = read_baseline(options.current_path)
        if old is not None:
            check_question(old, path, target=new.target, recipe=new.recipe)
        return new
    recipe, target = load_recipe(options.recipe_name), target_named(options.target_name)
    if old is not None:
        check_question(old, path, target=target.name, recipe=recipe.name)
        if not options.update:
            _check_versions(old, path, options)
    from bench.compare.cells import predict_baseline  # loads torch, which two files do without

    return predict_baseline(recipe, target)


def _check_versions(old: Baseline, path: Path, options: CompareOptions) -> None:
    """Refuse numbers of other releases, in the pull request's text too."""
    try:
        check_versions(old, path)
    except UserError as error:
        if options.markdown:
            click.echo(f"**Memory** · not compared. {plain(str(error))}")
        raise
