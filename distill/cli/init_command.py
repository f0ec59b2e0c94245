"""`distill init`: a recipe of one's own, written with comments."""

from dataclasses import dataclass
from pathlib import Path

import click

from distill.base.console import loaded, taking
from distill.spec.bounds import MOST_EPOCHS, MOST_PIXELS


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """The command line of `distill init`; `None` is asked for, or left to the recipe."""

    path: Path | None
    dataset: str | None
    start: str | None
    model: tuple[str, ...]
    image_size: int | None
    pretrained: bool | None
    epochs: int | None
    ask: bool | None
    force: bool


@click.command()
@click.argument("path", type=click.Path(path_type=Path), required=False, metavar="[FILE]")
@click.option("--dataset", metavar="NAME",
              help="The images: a folder or folder:DIR, csv:FILE, or a published set.")  # fmt: skip
@click.option("--from", "start", metavar="RECIPE",
              help="The recipe whose models and values to begin with. Default: one for such "
                   "data.")  # fmt: skip
@click.option("--model", multiple=True, metavar="STAGE=NAME",
              help="A stage's model, by timm name; none leaves the stage out.")  # fmt: skip
@click.option("--image-size", type=click.IntRange(1, MOST_PIXELS), metavar="PX",
              help="Pixels to which images are brought.")  # fmt: skip
@click.option("--pretrained/--no-pretrained", default=None, help="Begin with ImageNet weights.")
@click.option("--epochs", type=click.IntRange(1, MOST_EPOCHS), metavar="N",
              help="Epochs of every stage.")  # fmt: skip
@click.option("--ask/--no-ask", default=None,
              help="Ask for what no option says. Default: on a terminal.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@taking(InitOptions)
def init(options: InitOptions) -> None:
    """Write a recipe of your own: your images, your models, every value with a comment.

    FILE is DATASET.toml if it is left out. On a terminal what no option says is asked for.
    """
    loaded("distill.cli.start_init:write_own_recipe")(options)
