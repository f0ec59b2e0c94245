"""The `distill` command: parses, calls and prints. No torch is loaded before it is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from distill.base.console import Commands, GroupedCommand
from distill.base.errors import UserError
from distill.cli.run_options import RunOptions, run_options
from distill.spec.candidate import STAGES, Precision, StageName

if TYPE_CHECKING:
    from distill.spec.profile import Profile
    from distill.spec.recipe import Recipe
    from distill.spec.stage_plan import RecipeChanges

T = TypeVar("T")
PRECISION_OF: Mapping[bool, Precision] = {True: "fp16", False: "fp32"}
CHECKPOINTING_OF: Mapping[bool, int] = {True: 1, False: 0}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Distil ViT-Base to ViT-Small to ViT-Tiny inside a memory budget."""


@main.command(cls=GroupedCommand, short_help="Train the chain, or go on with it.")
@run_options
def run(options: RunOptions) -> None:
    """Train the chain: each stage taught by the best checkpoint of the one before it.

    A run that is there is continued; a finished stage is not repeated. Authority: this command
    line, then the profile, then the recipe. A batch size, precision or checkpointing other than
    the profile's is first held against the prediction.
    """
    from distill.base.signals import stop_on_signals
    from distill.spec.pins import default_allocator, set_environment
    from distill.spec.stage_plan import Overrides, changed_recipe

    profile, in_file = _work(options.profile_path, options.recipe_name)
    recipe = changed_recipe(in_file, _changes(options))
    overrides = Overrides(
        batch_size=options.batch_size,
        precision=_one_of(
            options.precision,
            "precision",
            options.mixed_precision,
            "mixed-precision",
            PRECISION_OF,
        ),
        checkpointing=_one_of(
            options.checkpointing,
            "checkpointing",
            options.gradient_checkpointing,
            "gradient-checkpointing",
            CHECKPOINTING_OF,
        ),
        deterministic=options.deterministic,
    )
    weights = _weights(recipe, options)
    _check_before_work(recipe, profile, options.stage, options.out)
    allocator = default_allocator() if profile is None else profile.allocator
    set_environment(allocator=allocator, deterministic=options.deterministic)

    from distill.run.chain import run_chain
    from distill.run.machine_check import obey, verified_again, watched
    from distill.run.request import Request, pick_device

    there = pick_device(options.device)
    if options.reverify:
        if options.profile_path is None:
            raise UserError("--reverify needs the --profile that is to be verified.")
        profile = verified_again(options.profile_path)
    if profile is not None:
        obey(profile, in_file, there, force=options.force)
    request = Request(
        recipe=recipe,
        profile=profile,
        overrides=overrides,
        stage=options.stage,
        out=options.out,
        data_dir=options.data_dir,
        num_workers=options.num_workers,
        fresh=options.fresh,
        device=there,
        weights=weights,
        json_log=options.json_log,
        memory_log=options.memory_log,
        empty_cache_every=options.empty_cache_every,
    )
    with stop_on_signals() as stop, watched(there):
        run_chain(request, stop)
        _report(profile, request.folder)


run_argument = click.argument(
    "folder", type=click.Path(path_type=Path), required=False, metavar="[RUN]"
)


@main.command(short_help="Repeat the tests of a finished run.")
@run_argument
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"),
              show_default=True, metavar="DIR",
              help="Where downloaded data sets are kept.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto",
              show_default=True, help="Where to evaluate.")  # fmt: skip
def evaluate(folder: Path | None, data_dir: Path, device: str) -> None:
    """Repeat the test of each stage's best checkpoint, beside the run's own numbers.

    RUN is the folder of a run, as in results/from_scratch/digits; it may be left out where
    results/ holds one run. Exit code 1: a number is not the run's own.
    """
    from distill.report.found_run import find_run, same_scores, scores_rows
    from distill.report.tables import as_text

    found = find_run(folder)
    from distill.report.retest import retest

    pairs = retest(found, data_dir, device)
    click.echo(as_text(scores_rows(pairs)))
    if not all(same_scores(*pair) for pair in pairs):
        from distill.base.console import fail

        fail("These are not the run's own numbers; another device rounds otherwise.", 1)


@main.command(short_help="A run's scores and memory by stage.")
@run_argument
def tables(folder: Path | None) -> None:
    """Print a run's tables: scores and memory by stage, from its files."""
    from distill.report.found_run import find_run, memory_rows
    from distill.report.tables import accuracy_rows, as_text

    found = find_run(folder)
    results = found.results()
    click.echo("Scores on the untouched test images\n\n" + as_text(accuracy_rows(results)))
    click.echo("\nHow each stage was trained\n\n" + as_text(memory_rows(found)))


@main.command(short_help="A stage's best model as a folder for timm.")
@run_argument
@click.option("--stage", type=click.Choice(STAGES), default="student", show_default=True,
              help="Whose best checkpoint.")  # fmt: skip
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="A folder for model.safetensors and config.json.")  # fmt: skip
def export(folder: Path | None, stage: StageName, target: Path) -> None:
    """Write a stage's best model as a folder that timm reads back (`local-dir:DIR`)."""
    from distill.report.found_run import find_run

    found = find_run(folder)
    from distill.report.export import export_stage

    export_stage(found, stage, target)
    click.echo(
        f'Wrote {target}/. Read it: timm.create_model("local-dir:{target}", pretrained=True)'
    )


@main.command(short_help="Remove what a run no longer needs.")
@run_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(folder: Path | None, dry_run: bool) -> None:
    """Remove what a run left behind and no longer needs; never a best or the latest checkpoint.

    Stale temporary files and superseded checkpoints, and the GPU's cached memory, shown before
    and after. Not while the run is training.
    """
    from contextlib import nullcontext

    from distill.base.lock import alone_with
    from distill.report.clean import clean_run
    from distill.report.found_run import find_run

    found = find_run(folder)
    with nullcontext() if dry_run else alone_with(found.folder):
        click.echo(clean_run(found, dry_run=dry_run))


def _changes(options: RunOptions) -> "RecipeChanges":
    from distill.spec.stage_plan import RecipeChanges

    return RecipeChanges(
        dataset=options.dataset,
        pretrained=True if options.weights and options.pretrained is None else options.pretrained,
        seed=options.seed,
        epochs=options.epochs,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        warmup_epochs=options.warmup_epochs,
        optimizer=options.optimizer,
        schedule=options.scheduler,
        step_epochs=options.step_epochs,
        alpha=options.alpha,
        temperature=options.temperature,
    )


def _weights(recipe: "Recipe", options: RunOptions) -> "dict[StageName, Path]":
    """The files to start from, by stage; `UserError` where it is not said for which."""
    found: dict[StageName, Path] = {}
    for text in options.weights:
        name, _, path = text.partition("=")
        stage = options.stage
        if name in STAGES:
            stage = recipe.stage_named(name).name
        else:
            path = text
        if stage == "all":
            raise UserError(
                f"--weights {text} does not say for which stage. Write STAGE={text}, "
                "or choose one with --stage."
            )
        if not Path(path).is_file():
            raise UserError(f"--weights: there is no file {path}.")
        found[stage] = Path(path)
    return found


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
    from distill.spec.profile import read_profile
    from distill.spec.recipe import load_recipe

    profile = None if profile_path is None else read_profile(profile_path)
    default = "cifar10" if profile is None else profile.recipe.name
    return profile, load_recipe(default if recipe_name is None else recipe_name)


def _check_before_work(
    recipe: "Recipe", profile: "Profile | None", stage: StageName | Literal["all"], out: Path
) -> None:
    """Refuse what can't work while nothing has been loaded or written yet."""
    from distill.base.files import ensure_folder
    from distill.spec.stage_plan import chosen_stages

    recipe.dataset_info()
    for one in chosen_stages(recipe, stage):
        if profile is not None:
            profile.choice_for(recipe, one.name)
    ensure_folder(out)
    if profile is not None and profile.status == "predicted":
        click.echo(f"Profile {profile.name}: predicted, not verified here.", err=True)


def _report(profile: "Profile | None", folder: Path) -> None:
    """Leave what the run came to so far as files beside its stages, and print it."""
    from dataclasses import asdict

    from distill.base.files import write_text
    from distill.report.curves import draw_curves
    from distill.report.found_run import find_run, recorded_choices
    from distill.report.tables import (
        accuracy_rows,
        as_csv,
        as_markdown,
        as_text,
        breakdown_records,
        breakdown_rows,
    )

    found = find_run(folder)
    results = found.results()
    rows = accuracy_rows(results)
    write_text(folder / "accuracy.md", as_markdown(rows) + "\n")
    write_text(folder / "accuracy.csv", as_csv([asdict(result) for result in results]))
    choices = [] if profile is None else recorded_choices(found, profile.target.title)
    if choices:
        write_text(folder / "budget.csv", as_csv(breakdown_records(choices)))
    logs = {stage: log for stage in STAGES for log in folder.glob(f"{stage}/logs/*_log.csv")}
    draw_curves(folder / "curves.png", logs)
    click.echo("\nScores on the untouched test images\n\n" + as_text(rows))
    if profile is not None and choices:
        budget = as_text(breakdown_rows(choices))
        click.echo(f"\nMemory at the peak, predicted for {profile.target.title}\n\n{budget}")
    click.echo(f"\nFiles: {folder}/ (accuracy.md, curves.png, one folder a stage)")
