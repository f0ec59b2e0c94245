"""`bench audit`: the original write-up's figures, held against. Parses, calls and prints."""

import click

from bench.options import json_option, recipe_option


@click.command()
@recipe_option
@json_option
def audit(recipe_name: str, as_json: bool) -> None:
    """Hold the original write-up's figures against what is predicted for them."""
    from bench.audit.audit import audit_text  # loads torch, which help must not

    click.echo(audit_text(recipe_name, as_json=as_json))
