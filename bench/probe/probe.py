"""The probe: every cell predicted, what is worth it measured, a profile chosen from both.

Every trial is in the journal before the next one begins, and what is there is not done again.
"""

import sys
from pathlib import Path

import click

from bench.card.detect import CardFacts, wanted_card
from bench.card.targets import (
    check_size,
    is_native,
    is_part_of,
    target_like,
    target_named,
    target_of_size,
)
from bench.probe.asked_work import asked_recipe, name_ending, run_command
from bench.probe.calibrate import calibrated, small_update
from bench.probe.command import ProbeOptions
from bench.probe.grid import profile_name, teacher_variants
from bench.probe.make_profile import Probed, make_profile, verified_profile
from bench.probe.measure_grid import KEPT, measure_grid
from bench.probe.predict_grid import predict_grid
from bench.probe.probe_plan import ProbePlan, plan_probe
from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.files import check_output, ensure_folder, written_name
from distill.base.lock import alone_with
from distill.base.signals import StopRequest, stop_on_signals
from distill.spec.pins import default_allocator
from distill.spec.profile import Target, write_profile


def run_probe(options: ProbeOptions) -> None:
    """Probe, print what came of it, write the profile. Raises `NoSafeChoice`, trials kept."""
    card = wanted_card(options.device)
    plan, path = _planned(options, card)
    # loads matplotlib, which takes a second; what is refused is refused before
    from bench.probe.outputs import show_choices, show_grid, show_time, write_outputs

    folder = plan.journal.parent
    check_output(path)
    ensure_folder(folder)
    with alone_with(plan.journal):
        with stop_on_signals(KEPT) as stop:
            plan, probed = probe(plan, stop)
        show_grid(plan, probed)
        profile = make_profile(plan, probed)
        if plan.device == "cuda" and card is not None:
            probed, profile = verified_profile(plan, probed, card, click.echo)
    write_profile(path, profile)
    show_choices(plan, profile)
    for line in write_outputs(plan, probed, profile, folder):
        click.echo(line)
    click.echo(f"\nWrote {path} ({profile.status}) and {folder}/ (tables, pictures, trials)")
    click.echo(f"Next: {run_command(options, plan.recipe, path)}\n")
    show_time(plan, profile)


def probe(plan: ProbePlan, stop: StopRequest) -> tuple[ProbePlan, Probed]:
    """Predict the grid, then measure; the plan goes on with what was measured of the machine.

    Raises `Interrupted` when asked to stop, trials kept.
    """
    journal = Journal(plan.journal, force=plan.force)
    say_what_is_left_out(plan, journal)
    predicted = predict_grid(plan, journal)
    measured: list[Trial] = []
    if plan.device != "predict":
        measured = measure_grid(plan, journal, predicted, stop)
    probed = Probed(predicted=tuple(predicted), measured=tuple(measured))
    if plan.device != "cuda":
        return plan, probed
    small = small_update(plan.target.compute_capability)
    return calibrated(plan, probed, journal.done(small, plan.measured_under))


def say_what_is_left_out(plan: ProbePlan, journal: Journal) -> None:
    """Tell of journal lines that are torn, or that hold for other conditions."""
    if journal.torn:
        print(f"  {journal.torn} torn line(s) of {journal.path} left out", file=sys.stderr)
    elsewhere = journal.elsewhere([plan.predicted_under, plan.measured_under])
    if elsewhere:
        print(
            f"  {elsewhere} line(s) of {journal.path} count as not done: they are of another "
            "card, driver, cap, version or source",
            file=sys.stderr,
        )


def _planned(options: ProbeOptions, card: CardFacts | None) -> tuple[ProbePlan, Path]:
    """The plan, refused where nothing is left to train in, and where its profile goes."""
    target = _target(options, card)
    recipe = asked_recipe(options)
    on_card = card is not None and options.device != "cpu"
    imitated = on_card and card is not None and not is_native(card, options.vram)
    imitated = imitated or is_part_of(target, options.vram)
    name = profile_name(recipe, options.vram, target, imitated=imitated) + name_ending(options)
    if options.out is not None:
        name = written_name(options.out.stem)
    plan = plan_probe(
        recipe=recipe,
        vram_gib=options.vram,
        target=target,
        card=card,
        allocator=options.allocator or default_allocator(),
        device="cpu" if options.device == "cpu" else "cuda" if card else "predict",
        name=name,
        journal=options.results / "probe" / name / "trials.jsonl",
        force=options.force,
        variants=teacher_variants(recipe, options.teacher, options.teacher_views),
    )
    return plan, options.out or Path("profiles") / f"{name}.json"


def _target(options: ProbeOptions, card: CardFacts | None) -> Target:
    """The card that is named, else the one that is here, else one of that size."""
    if options.target_name != "auto":
        target = target_named(options.target_name)
    elif card is None:
        return target_of_size(options.vram)
    else:
        target = target_like(card)
    check_size(target, options.vram)
    return target
