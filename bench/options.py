"""Options that several `bench` commands share. No torch, no pydantic."""

from typing import get_args

import click

from distill.base.console import Number, OneOf
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
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
