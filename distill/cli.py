"""The `distill` command: parses, calls and prints. No torch is loaded before it is needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from distill.candidate import PRECISIONS, STAGES, Precision, StageName
from distill.console import Above, Commands
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.profile import Profile
    from distill.recipe import Recipe
    from distill.runs import StageResult

T = TypeVar("T")
PRECISION_OF: Mapping[bool, Precision] = {True: "fp16", False: "fp32"}
CHECKPOINTING_OF: Mapping[bool, int] = {True: 1, False: 0}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Distil ViT-Base to ViT-Small to ViT-Tiny inside a memory budget."""


@main.command()
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The profile to obey: batch, precision, checkpointing, pins, memory cap.",
)
@click.option(
    "--recipe",
    "recipe_name",
    metavar="NAME|FILE",
    help="What to train. Default: the profile's recipe, else cifar10.",
)
@click.option(
    "--stage",
    type=click.Choice([*STAGES, "all"]),
    default="all",
    show_default=True,
    help="Which stage to train.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where runs are kept.",
)
@click.option("--fresh", is_flag=True, help="Delete the run that is there and start over.")
@click.option(
    "--dataset",
    metavar="NAME",
    help="Another data set: digits, cifar10, cifar100, fashion_mnist, one of MedMNIST "
    "(pathmnist, pathmnist_64, …), folder:DIR.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    metavar="DIR",
    help="Where downloaded data sets are kept.",
)
@click.option(
    "--num-workers",
    type=click.IntRange(min=0),
    help="Threads that read images ahead. Default: 2 where images lie in a file, 0 in memory.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of every stage.")
@click.option("--lr", type=Above(0), help="Peak learning rate of every stage.")
@click.option("--weight-decay", type=click.FloatRange(min=0), help="AdamW's weight decay.")
@click.option("--warmup-epochs", type=click.FloatRange(min=0), help="Epochs of linear warm-up.")
@click.option("--alpha", type=click.FloatRange(0, 1), help="Weight of the teacher in the loss.")
@click.option("--temperature", type=Above(0), help="Temperature of the softened probabilities.")
@click.option("--pretrained/--no-pretrained", default=None, help="Start from ImageNet weights.")
@click.option("--seed", type=int, help="Seed of weights, order and views.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Images at a time; the recipe's images per update stay.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Numbers of forward and backward.")
@click.option(
    "--mixed-precision/--no-mixed-precision",
    default=None,
    help="The same as --precision fp16 or fp32.",
)
@click.option(
    "--checkpointing",
    type=click.IntRange(min=0),
    metavar="K",
    help="Run every K-th block again in backward; 0 is off.",
)
@click.option(
    "--gradient-checkpointing/--no-gradient-checkpointing",
    default=None,
    help="The same as --checkpointing 1 or 0.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=False,
    show_default=True,
    help="Only kernels that give the same bits each time.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
@click.option("--reverify", is_flag=True, help="Verify the profile here first (bench verify).")
@click.option("--force", is_flag=True, help="Train with a profile of another machine all the same.")
def run(
    profile_path: Path | None,
    recipe_name: str | None,
    stage: StageName | Literal["all"],
    out: Path,
    fresh: bool,
    dataset: str | None,
    data_dir: Path,
    num_workers: int | None,
    epochs: int | None,
    lr: float | None,
    weight_decay: float | None,
    warmup_epochs: float | None,
    alpha: float | None,
    temperature: float | None,
    pretrained: bool | None,
    seed: int | None,
    batch_size: int | None,
    precision: Precision | None,
    mixed_precision: bool | None,
    checkpointing: int | None,
    gradient_checkpointing: bool | None,
    deterministic: bool,
    device: str,
    reverify: bool,
    force: bool,
) -> None:
    """Train the chain: each stage taught by the best checkpoint of the one before it.

    A run that is there is continued; a finished stage is not repeated. Authority: this command
    line, then the profile, then the recipe.
    """
    import shutil

    from distill.chain import Overrides, RecipeChanges, changed_recipe
    from distill.pins import default_allocator, set_environment
    from distill.signals import stop_on_signals

    profile, in_file = _work(profile_path, recipe_name)
    recipe = changed_recipe(
        in_file,
        RecipeChanges(
            dataset=dataset,
            pretrained=pretrained,
            seed=seed,
            epochs=epochs,
            learning_rate=lr,
            weight_decay=weight_decay,
            warmup_epochs=warmup_epochs,
            alpha=alpha,
            temperature=temperature,
        ),
    )
    overrides = Overrides(
        batch_size=batch_size,
        precision=_one_of(precision, "precision", mixed_precision, "mixed-precision", PRECISION_OF),
        checkpointing=_one_of(
            checkpointing,
            "checkpointing",
            gradient_checkpointing,
            "gradient-checkpointing",
            CHECKPOINTING_OF,
        ),
        deterministic=deterministic,
    )
    _check_before_work(recipe, profile, stage, out)
    allocator = default_allocator() if profile is None else profile.allocator
    set_environment(allocator=allocator, deterministic=deterministic)

    from distill.obedience import obey, verified_again, watched
    from distill.run import Request, pick_device, run_chain

    there = pick_device(device)
    if reverify:
        if profile_path is None:
            raise UserError("--reverify needs the --profile that is to be verified.")
        profile = verified_again(profile_path)
    if profile is not None:
        obey(profile, in_file, there, force=force)
    request = Request(
        recipe=recipe,
        profile=profile,
        overrides=overrides,
        stage=stage,
        out=out,
        data_dir=data_dir,
        num_workers=num_workers,
        device=there,
    )
    if fresh:
        shutil.rmtree(request.folder, ignore_errors=True)
    with stop_on_signals() as stop, watched(there):
        results = run_chain(request, stop)
    _report(results, profile, request.folder)


def _one_of(
    value: T | None, name: str, switch: bool | None, switch_name: str, meaning: Mapping[bool, T]
) -> T | None:
    """An option and the write-up's switch for the same thing, of which at most one is given."""
    if switch is None:
        return value
    if value is not None:
        raise UserError(f"Give --{name} or --{switch_name}, not both.")
    return meaning[switch]


def _work(profile_path: Path | None, recipe_name: str | None) -> "tuple[Profile | None, Recipe]":
    """The profile, if one is named, and the recipe: the one named, else the profile's."""
    from distill.profile import read_profile
    from distill.recipe import load_recipe

    profile = None if profile_path is None else read_profile(profile_path)
    default = "cifar10" if profile is None else profile.recipe.name
    return profile, load_recipe(recipe_name or default)


def _check_before_work(
    recipe: "Recipe", profile: "Profile | None", stage: StageName | Literal["all"], out: Path
) -> None:
    """Refuse what can't work while nothing has been loaded or written yet."""
    from distill.chain import chosen_stages
    from distill.files import ensure_folder

    recipe.dataset_info()
    for one in chosen_stages(recipe, stage):
        if profile is not None:
            profile.choice_for(recipe, one.name)
    ensure_folder(out)
    if profile is not None and profile.status == "predicted":
        click.echo(f"Profile {profile.name}: predicted, not verified here.", err=True)


def _report(results: "Sequence[StageResult]", profile: "Profile | None", folder: Path) -> None:
    """Print what the run came to, and leave it as files beside the stages."""
    from dataclasses import asdict

    from distill.curves import draw_curves
    from distill.files import write_text
    from distill.tables import (
        accuracy_rows,
        as_csv,
        as_markdown,
        as_text,
        breakdown_records,
        breakdown_rows,
    )

    rows = accuracy_rows(results)
    click.echo("\nScores on the untouched test images\n\n" + as_text(rows))
    write_text(folder / "accuracy.md", as_markdown(rows) + "\n")
    write_text(folder / "accuracy.csv", as_csv([asdict(result) for result in results]))
    if profile is not None:
        stages = {result.stage for result in results}
        choices = [choice for choice in profile.choices if choice.stage in stages]
        budget = breakdown_rows(choices)
        click.echo(
            f"\nMemory at the peak, {choices[0].source} for {profile.target.title}\n\n"
            + as_text(budget)
        )
        write_text(folder / "budget.csv", as_csv(breakdown_records(choices)))
    logs = {stage: log for stage in STAGES for log in folder.glob(f"{stage}/logs/*_log.csv")}
    draw_curves(folder / "curves.png", logs)
    click.echo(f"\nFiles: {folder}/ (accuracy.md, curves.png, one folder a stage)")
