"""The `bench` commands that measure where there is a GPU: probe, verify, evidence.

Parse, call and print, as `cli` does, which joins them to the others.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.options import VRAM, allocator_option, recipe_option
from distill.base.console import Number
from distill.spec.candidate import Allocator

if TYPE_CHECKING:
    from bench.card.detect import CardFacts
    from bench.probe.probe import Probed
    from bench.probe.probe_plan import Request
    from distill.spec.profile import Profile, Target


@click.command(short_help="The whole grid: trials, tables, pictures, a profile.")
@click.option("--vram", type=VRAM, required=True, metavar="GIB",
              help="Memory of the card as its box says, in GiB.")  # fmt: skip
@recipe_option
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu", "predict"]), default="auto",
              show_default=True,
              help="auto measures where CUDA is, else predicts; cpu only times.")  # fmt: skip
@click.option("--target", "target_name", default="auto", show_default=True, metavar="NAME|auto",
              help="The card that numbers are for; auto: this one, else rtx4050.")  # fmt: skip
@allocator_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The profile. Default: profiles/rtx4050.json for recipe cifar10 at 6 GiB, "
                   "else profiles/<recipe>-<N>gb.json.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"),
              show_default=True, metavar="DIR",
              help="Where trials, tables and pictures go.")  # fmt: skip
@click.option("--force", is_flag=True, help="Make every trial again, those done before too.")
def probe(
    vram: float,
    recipe_name: str,
    device: Literal["auto", "cuda", "cpu", "predict"],
    target_name: str,
    allocator: Allocator | None,
    out: Path | None,
    results: Path,
    force: bool,
) -> None:
    """Look at every stage × precision × checkpointing × batch and write a profile."""
    from bench.card.targets import is_native
    from bench.probe.grid import profile_name
    from bench.probe.probe import make_profile, settle
    from bench.probe.probe import probe as run_probe
    from bench.probe.probe_plan import Request
    from distill.base.files import ensure_folder
    from distill.base.lock import alone_with
    from distill.base.signals import stop_on_signals
    from distill.spec.pins import default_allocator
    from distill.spec.profile import write_profile
    from distill.spec.recipe import load_recipe

    recipe = load_recipe(recipe_name)
    card = _card(device)
    target = _target(target_name, card)
    imitated = card is not None and device != "cpu" and not is_native(card, vram)
    name = out.stem if out else profile_name(recipe, vram, target, imitated=imitated)
    path = out or Path("profiles") / f"{name}.json"
    folder = results / "probe" / name
    request = Request(
        recipe=recipe,
        vram_gib=vram,
        target=target,
        card=card,
        allocator=allocator or default_allocator(),
        device="cpu" if device == "cpu" else "cuda" if card else "predict",
        name=name,
        journal=folder / "trials.jsonl",
        force=force,
    )
    _ = request.budget  # refused, where nothing is left to train in, before anything is written
    ensure_folder(path.parent)
    ensure_folder(folder)
    with alone_with(request.journal):
        with stop_on_signals() as stop:
            probed = run_probe(request, stop)
        _show_tables(request, probed)
        profile = make_profile(request, probed)
        if request.device == "cuda" and card is not None:
            probed, profile = settle(request, probed, card, click.echo)
    write_profile(path, profile)
    _show_profile(request, probed, profile, folder)
    click.echo(f"\nWrote {path} ({profile.status}) and {folder}/ (tables, pictures, trials)")
    click.echo(f"Next: distill run --profile {path}")


@click.command(short_help="Prove a profile on the GPU that is here.")
@click.argument("profile_path", type=click.Path(path_type=Path), metavar="PROFILE")
def verify(profile_path: Path) -> None:
    """Prove a profile on the GPU that is here: it fits under its cap, and not below it.

    Each choice trains in a fresh process for a minute or 200 updates, saves, loads and
    evaluates; then a few MiB less than predicted must not be enough. Exit code 1: not safe.
    """
    from bench.verify.verify import verify as prove_all
    from bench.verify.verify import with_verification
    from distill.spec.profile import read_profile, write_profile

    profile = read_profile(profile_path)
    card = _card("cuda")
    assert card is not None
    verification = prove_all(profile, card, tell=click.echo)
    profile = with_verification(profile, verification, card)
    write_profile(profile_path, profile)
    click.echo(f"Wrote {profile_path} ({profile.status}, cap {verification.cap})")
    sys.exit(0 if verification.passed else 1)


@click.command(short_help="On a GPU: all that needs one, in one bounded run.")
@click.option("--minutes", type=Number(above=0, at_most=120, unit=" minutes"),
              default=9.0, show_default=True, help="Be done by then.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Where the files go.")  # fmt: skip
@click.option("--profile", "profile_path", type=click.Path(path_type=Path),
              default=Path("profiles/rtx4050.json"), show_default=True, metavar="FILE",
              help="The profile to verify and to time.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="The same way on the CPU, with tiny models.")
@click.option("--tables", is_flag=True,
              help="Measure nothing; print the tables of what is in DIR.")  # fmt: skip
def evidence(minutes: float, out: Path, profile_path: Path, dry_run: bool, tables: bool) -> None:
    """On a GPU: everything that needs one, in one bounded run."""
    from time import monotonic

    from bench.evidence.evidence import run_evidence
    from bench.evidence.plan import plan, small_plan
    from bench.evidence.session import Request
    from bench.evidence.summary import tables as make_tables
    from distill.base.files import ensure_folder, write_text
    from distill.base.signals import stop_on_signals
    from distill.device.visible_devices import hide_devices
    from distill.spec.profile import read_profile
    from distill.spec.recipe import load_recipe

    if tables or dry_run:
        hide_devices()
    if tables:
        text = make_tables(out)
        if out.is_dir():
            write_text(out / "tables.md", text)
        click.echo(text, nl=False)
        return
    began = monotonic()
    card = None if dry_run else _card("cuda")
    profile = None if dry_run else read_profile(profile_path)
    chosen = (
        small_plan(load_recipe("demo"))
        if profile is None
        else plan(load_recipe(profile.recipe.name), profile.choices)
    )
    ensure_folder(out)
    request = Request(
        out=out,
        minutes=minutes,
        plan=chosen,
        card=card,
        profile=profile_path,
        command=f"bench evidence --minutes {minutes:g}" + (" --dry-run" if dry_run else ""),
        began=began,
    )
    with stop_on_signals() as stop:
        parts = run_evidence(request, stop)
    click.echo(f"Next, on any machine: bench evidence --tables --out {out}")
    sys.exit(0 if all(part["done"] for part in parts) else 1)


def _card(device: str) -> "CardFacts | None":
    """The device to measure on, if there is one and it is wanted."""
    from bench.card.detect import ask_card
    from distill.base.errors import NoDeviceError

    if device in ("cpu", "predict"):
        return None
    card = ask_card()
    if card is None and device == "cuda":
        raise NoDeviceError("No CUDA device here. Use --device predict, or run where there is one.")
    return card


def _target(name: str, card: "CardFacts | None") -> "Target":
    from bench.card.targets import target_like, target_named

    if name != "auto":
        return target_named(name)
    return target_named("rtx4050") if card is None else target_like(card)


def _show_tables(request: "Request", probed: "Probed") -> None:
    from bench.probe.grid_tables import (
        budget_line,
        by_stage,
        stage_matrix,
        stage_title,
        target_line,
    )

    click.echo(f"{request.recipe.about}\nTarget: {target_line(request.target)}")
    click.echo(budget_line(probed.budget))
    for trials in by_stage(probed.predicted).values():
        click.echo(f"\n{stage_title(trials)} — predicted peak reserved MiB, share of the budget\n")
        click.echo(stage_matrix(trials, probed.budget))


def _show_profile(request: "Request", probed: "Probed", profile: "Profile", folder: Path) -> None:
    """The choices on the terminal; tables and pictures as files."""
    from bench.probe.grid import effective_batches
    from bench.probe.grid_pictures import draw_breakdown, draw_heatmap
    from bench.probe.grid_tables import by_stage, choice_line, stage_rows
    from bench.probe.trial_pictures import draw_trials
    from distill.base.files import write_text
    from distill.report.tables import (
        as_csv,
        as_markdown,
        as_text,
        breakdown_records,
        breakdown_rows,
    )

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
    click.echo("\n".join(draw_trials(request, probed, profile, folder)))
