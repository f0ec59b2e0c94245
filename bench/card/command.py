"""`bench cards`: the cards that a number can be for. Parses, calls and prints."""

import click

from bench.options import json_option


@click.command()
@json_option
def cards(as_json: bool) -> None:
    """List the cards that --target knows, and what each can do.

    A card of your own is a TOML file with title, box_gib, compute_capability and
    multiprocessors; docs/prediction.md has an example. Name it: --target FILE.
    """
    from bench.card.listing import cards_text  # loads pydantic, which help must not

    click.echo(cards_text(as_json=as_json))
