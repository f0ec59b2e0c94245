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
from bench.compare.limits import check_limits, read_limits
from bench.compare.metric_files import bencher_metrics, smaller_is_better
from distill.base.errors import UserError
from distill.base.files import check_apart, check_output, write_json
from distill.spec.recipe import load_recipe


def run_gate(options: CompareOptions) -> int:
    """Compare, print, and with `update` write the baseline anew; the exit code."""
    path = options.baseline_path
    limits = read_limits(options.limit_texts)
    _check_places(options)
    write_page = None if options.html is None else page_writer(options.html)
    old = None if options.update and not path.exists() else read_baseline(path)
    new = _current(options, old)
    differences = compare_cells(
        old.cells if old else (), new.cells, tolerance_percent=options.tolerance
    )
    found = Compared(
        before=old,
        after=new,
        differences=differences,
        updated=options.update,
        limits=check_limits(limits, new.cells),
    )
    click.echo(_shown(found, options))
    if write_page is not None:
        click.echo(write_page(found), err=True)
    _write_metrics(new, options)
    if options.update:
        write_baseline(path, new)
        click.echo(f"Wrote {path}.", err=True)
    return found.exit_code


def _check_places(options: CompareOptions) -> None:
    """Refuse places that can't be written, or over another or an input."""
    if options.update:
        check_output(options.baseline_path)
    places = {"--html": options.html, "--metrics": options.metrics, "--bencher": options.bencher}
    check_apart(places, options.baseline_path, options.current_path)


def _write_metrics(cells: Baseline, options: CompareOptions) -> None:
    """The cells in the forms that other programs read, where they are asked for."""
    for path, form in ((options.metrics, smaller_is_better), (options.bencher, bencher_metrics)):
        if path is not None:
            write_json(path, form(cells))
            click.echo(f"Wrote {path}.", err=True)


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
