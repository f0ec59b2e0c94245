"""The `bench` command: parses, calls and prints. No torch is loaded before it is needed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from distill.candidate import PRECISIONS, STAGES, Allocator, Precision, StageName
from distill.console import Above, Commands

if TYPE_CHECKING:
    from bench.measure.card import CardFacts
    from bench.probe import Probed, Request
    from distill.profile import Profile, Target

VRAM = Above(0, 1024, " GiB")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Find out what fits in a GPU's memory, with the GPU or without it."""


@main.command()
@click.option(
    "--vram",
    type=VRAM,
    required=True,
    metavar="GIB",
    help="Memory of the card as its box says, in GiB.",
)
@click.option(
    "--recipe",
    "recipe_name",
    default="cifar10",
    show_default=True,
    metavar="NAME|FILE",
    help="What is to be trained.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu", "predict"]),
    default="auto",
    show_default=True,
    help="auto measures where CUDA is, else predicts; cpu only times.",
)
@click.option(
    "--target",
    "target_name",
    default="auto",
    show_default=True,
    metavar="NAME|auto",
    help="The card that numbers are for; auto is the one here, else rtx4050.",
)
@click.option(
    "--allocator",
    type=click.Choice(["expandable", "native"]),
    help="PyTorch's allocator. Default: expandable on Linux, else native.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The profile. Default: profiles/rtx4050.json, profiles/<recipe>-<N>gb.json.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where trials, tables and pictures go.",
)
def probe(
    vram: float,
    recipe_name: str,
    device: Literal["auto", "cuda", "cpu", "predict"],
    target_name: str,
    allocator: Allocator | None,
    out: Path | None,
    results: Path,
) -> None:
    """Look at every stage × precision × checkpointing × batch and write a profile."""
    from bench.grid import profile_name
    from bench.probe import Request, make_profile
    from bench.probe import probe as run_probe
    from distill.files import ensure_folder
    from distill.pins import default_allocator
    from distill.profile import write_profile
    from distill.recipe import load_recipe
    from distill.signals import stop_on_signals

    recipe = load_recipe(recipe_name)
    card = _card(device)
    target = _target(target_name, card)
    name = profile_name(recipe, vram, target) if out is None else out.stem
    path = out or Path("profiles") / f"{name}.json"
    folder = results / "probe" / name
    ensure_folder(path.parent)
    ensure_folder(folder)
    request = Request(
        recipe=recipe,
        vram_gib=vram,
        target=target,
        card=card,
        allocator=allocator or default_allocator(),
        device="cpu" if device == "cpu" else "cuda" if card else "predict",
        name=name,
        journal=folder / "trials.jsonl",
    )
    with stop_on_signals() as stop:
        probed = run_probe(request, stop)
    _show_tables(request, probed)
    profile = make_profile(request, probed)
    write_profile(path, profile)
    _show_profile(request, probed, profile, folder)
    click.echo(f"\nWrote {path} ({profile.status}) and {folder}/ (tables, pictures, trials)")
    click.echo(f"Next: distill run --profile {path}")


@main.command()
@click.option(
    "--stage", type=click.Choice(STAGES), required=True, help="Which stage of the recipe."
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at a time.")
@click.option(
    "--accumulation",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Micro-batches an update; from the second on, gradients are there already.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option(
    "--checkpointing",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="Run every K-th block again in backward; 0 is off.",
)
@click.option("--recipe", "recipe_name", default="cifar10", show_default=True, metavar="NAME|FILE")
@click.option("--target", "target_name", default="rtx4050", show_default=True, metavar="NAME")
@click.option(
    "--allocator",
    type=click.Choice(["expandable", "native"]),
    help="PyTorch's allocator. Default: expandable on Linux, else native.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def predict(
    stage: StageName,
    batch_size: int | None,
    accumulation: int,
    precision: Precision,
    checkpointing: int,
    recipe_name: str,
    target_name: str,
    allocator: Allocator | None,
    as_json: bool,
) -> None:
    """Predict one configuration: peaks, and who owns each byte. Needs no GPU."""
    from dataclasses import replace

    from bench.cards import target_named
    from distill.pins import default_allocator
    from distill.recipe import load_recipe

    recipe, target = load_recipe(recipe_name), target_named(target_name)
    candidate = replace(
        recipe.candidate(stage, micro_batch=batch_size),
        accumulation=accumulation,
        precision=precision,
        checkpointing=checkpointing,
        implementation="fused",
    )
    from bench.predict.predictor import Predictor
    from bench.show import prediction_json, prediction_text

    prediction = Predictor(target, allocator or default_allocator()).predict(candidate)
    click.echo(prediction_json(prediction) if as_json else prediction_text(prediction))


def _card(device: str) -> "CardFacts | None":
    """The device to measure on, if there is one and it is wanted."""
    from bench.measure.card import ask_card
    from distill.errors import NoDeviceError

    if device in ("cpu", "predict"):
        return None
    card = ask_card()
    if card is None and device == "cuda":
        raise NoDeviceError("No CUDA device here. Use --device predict, or run where there is one.")
    return card


def _target(name: str, card: "CardFacts | None") -> "Target":
    from bench.cards import target_like, target_named

    if name != "auto":
        return target_named(name)
    return target_named("rtx4050") if card is None else target_like(card)


def _show_tables(request: "Request", probed: "Probed") -> None:
    from bench.report import budget_line, by_stage, stage_matrix, stage_title, target_line

    click.echo(f"{request.recipe.about}\nTarget: {target_line(request.target)}")
    click.echo(budget_line(probed.budget))
    for trials in by_stage(probed.predicted).values():
        click.echo(f"\n{stage_title(trials)} — predicted peak reserved MiB, share of the budget\n")
        click.echo(stage_matrix(trials, probed.budget))


def _show_profile(request: "Request", probed: "Probed", profile: "Profile", folder: Path) -> None:
    """The choices on the terminal; tables and pictures as files."""
    from bench.grid import effective_batches
    from bench.plots import draw_breakdown, draw_heatmap
    from bench.report import by_stage, choice_line, stage_rows
    from distill.files import write_text
    from distill.tables import as_csv, as_markdown, as_text, breakdown_records, breakdown_rows

    effective = effective_batches(request.recipe)
    chosen = {choice.stage: choice for choice in profile.choices}
    click.echo("")
    for choice in profile.choices:
        click.echo(choice_line(choice, probed.budget))
    click.echo("\nWho owns the peak\n\n" + as_text(breakdown_rows(profile.choices)))
    for stage, trials in by_stage([*probed.predicted, *probed.measured]).items():
        rows = stage_rows(trials, probed.budget, effective[stage], chosen[stage])
        write_text(folder / f"{stage}.md", as_markdown(rows) + "\n")
        write_text(folder / f"{stage}.csv", as_csv(rows))
    write_text(folder / "breakdown.csv", as_csv(breakdown_records(profile.choices)))
    title = f"{request.recipe.name} on {request.target.title}, predicted"
    draw_heatmap(folder / "peaks.png", probed.predicted, probed.budget, title)
    draw_breakdown(folder / "breakdown.png", profile.choices, probed.budget, title)


if __name__ == "__main__":
    sys.exit(main())
