"""Holds cells against the baseline, prints the differences and decides the exit code."""

import click

from bench.card.targets import target_named
from bench.compare.baseline import (
    Baseline,
    check_question,
    check_versions,
    read_baseline,
    write_baseline,
)
from bench.compare.cells import predict_baseline
from bench.compare.command import CompareOptions
from bench.compare.compare import compare_cells, compare_text, exit_code
from distill.base.files import check_output
from distill.spec.recipe import load_recipe


def run_gate(options: CompareOptions) -> int:
    """Compare, print, and with `update` write the baseline anew; the exit code."""
    path = options.baseline_path
    if options.update:
        check_output(path)
    old = None if options.update and not path.exists() else read_baseline(path)
    new = _current(options, old)
    differences = compare_cells(
        old.cells if old else (), new.cells, tolerance_percent=options.tolerance
    )
    click.echo(
        compare_text(
            differences,
            markdown=options.markdown,
            as_json=options.as_json,
            updated=options.update,
        )
    )
    if options.update:
        write_baseline(path, new)
        click.echo(f"Wrote {path}.", err=True)
        return 0
    return exit_code(differences)


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
            check_versions(old, path)
    return predict_baseline(recipe, target)
