"""`bench audit`: the original write-up's figures against predictions. Parses, calls and prints."""

from pathlib import Path

import click

from bench.options import evidence_option, json_option, recipe_option


@click.command()
@recipe_option
@evidence_option
@json_option
def audit(recipe_name: str, evidence: Path, as_json: bool) -> None:
    """Hold the original write-up's figures against what is predicted for them."""
    # loads pydantic, which help must not; a recipe is refused before torch is loaded
    from distill.spec.recipe import load_recipe

    recipe = load_recipe(recipe_name)
    from bench.audit.audit import audit_text  # loads torch

    click.echo(audit_text(recipe, evidence, as_json=as_json))
