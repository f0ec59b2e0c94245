"""Options that several `bench` commands share. No torch, no pydantic."""

from pathlib import Path
from typing import get_args

import click
from click.core import ParameterSource

from distill.base.console import Number, OneOf
from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.spec.bounds import LEAST_VRAM_GIB, MOST_VRAM_GIB
from distill.spec.candidate import Allocator

VRAM = Number(at_least=LEAST_VRAM_GIB, at_most=MOST_VRAM_GIB, unit=" GiB")

recipe_option = click.option(
    "--recipe", "recipe_name", default="cifar10", show_default=True,
    metavar="NAME[:DATASET]|FILE",
    help="What is to be trained, on other data if you like: medmnist:pathmnist_64.",
)  # fmt: skip
dataset_option = click.option(
    "--dataset", metavar="NAME",
    help="Other data than the recipe's, as distill run takes them: folder:DIR, csv:FILE, a set.",
)  # fmt: skip
teacher_weights_option = click.option(
    "--teacher-weights", metavar="[STAGE=]FILE",
    help="The recipe with a trained teacher of your own, as distill run takes it.",
)  # fmt: skip
teacher_model_option = click.option(
    "--teacher-model", metavar="NAME", help="Which model that is, where the file does not say it."
)
allocator_option = click.option(
    "--allocator", type=OneOf(get_args(Allocator)),
    help="PyTorch's allocator. Default: expandable on Linux, else native.",
)  # fmt: skip


def _there(ctx: click.Context, parameter: click.Parameter, path: Path) -> Path:
    """A folder that is named must be there; the default one need not."""
    given = ctx.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    if given and not path.is_dir():
        near = did_you_mean_beside(path, folder=True)
        raise UserError(f"There is no folder {path}.{near} Name one that bench evidence filled.")
    return path


evidence_option = click.option(
    "--evidence", type=click.Path(path_type=Path), default=Path("results/evidence"),
    show_default=True, metavar="DIR", callback=_there,
    help="Where recordings of cards lie.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
