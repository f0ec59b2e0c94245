"""Outputs of a probe: the grid and the choices as text, tables and pictures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from bench.card.budget import budget_line
from bench.card.cards import card_notes
from bench.card.releases import release_notes
from bench.card.targets import target_line
from bench.probe.disagreements import Disagreement, disagreements
from bench.probe.grid_pictures import draw_breakdown, draw_heatmap
from bench.probe.grid_tables import (
    choice_line,
    reasons_against,
    stage_matrix,
    stage_rows,
    stage_title,
)
from bench.probe.make_profile import Probed
from bench.probe.probe_plan import ProbePlan
from bench.probe.trial_pictures import draw_agreement, draw_speed
from bench.trials.trial import by_stage
from distill.base.files import write_json, write_text
from distill.report.tables import (
    as_csv,
    as_markdown,
    as_text,
    breakdown_records,
    breakdown_rows,
)
from distill.spec.profile import Profile
from distill.spec.stage_time import chain_lines


def show_grid(plan: ProbePlan, probed: Probed) -> None:
    """Print the recipe, the card, the budget, and the predicted peaks of every stage."""
    click.echo(f"{plan.recipe.about}\nTarget: {target_line(plan.target)}")
    for note in (*release_notes(), *card_notes(plan.target, half=True)):
        click.echo(note)
    click.echo(budget_line(plan.budget))
    for stage, trials in by_stage(probed.predicted).items():
        click.echo(
            f"\n{stage_title(trials)}, {plan.effective_batches[stage]} images an update — "
            "predicted peak reserved MiB, share of the budget\n"
        )
        click.echo(stage_matrix(trials, plan.budget))
        for line in reasons_against(trials):
            click.echo(line)


def show_choices(plan: ProbePlan, profile: Profile) -> None:
    """Print the chosen configurations and who owns their peaks."""
    click.echo("")
    for choice in profile.choices:
        click.echo(choice_line(choice, plan.budget))
    click.echo("\nWho owns the peak\n\n" + as_text(breakdown_rows(profile.choices)))


def show_time(plan: ProbePlan, profile: Profile) -> None:
    """Print how long the chain takes under the profile."""
    epochs = {s.name: plan.recipe.training_of(s.name).epochs for s in plan.recipe.stage}
    for line in chain_lines(profile, epochs):
        click.echo(line)


def write_outputs(plan: ProbePlan, probed: Probed, profile: Profile, folder: Path) -> list[str]:
    """Write tables and pictures; gives what is to be said of them."""
    chosen = {choice.stage: choice for choice in profile.choices}
    for stage, trials in by_stage([*probed.predicted, *probed.measured]).items():
        rows = stage_rows(trials, plan.budget, plan.effective_batches[stage], chosen[stage])
        write_text(folder / f"{stage}.md", as_markdown(rows) + "\n")
        write_text(folder / f"{stage}.csv", as_csv(rows))
    write_text(folder / "breakdown.csv", as_csv(breakdown_records(profile.choices)))
    title = f"{plan.recipe.name} on {plan.target.title}"
    peaks = folder / "peaks.png"
    draw_heatmap(peaks, probed.predicted, profile.choices, plan.budget, f"{title}, predicted")
    draw_breakdown(folder / "breakdown.png", profile.choices, plan.budget, f"{title}, predicted")
    card = plan.card if plan.device == "cuda" else None
    drawn = probed.predicted if card is None else probed.measured
    source = "predicted" if card is None else f"measured on {card.name}"
    speed = folder / "speed.png"
    draw_speed(speed, drawn, profile.choices, plan.budget, f"{title}, {source}")
    if card is None:
        return []
    draw_agreement(folder / "agreement.png", probed.predicted, probed.measured, title)
    found = disagreements(probed.predicted, probed.measured)
    write_json(folder / "findings.json", [asdict(one) for one in found])
    return _disagreement_lines(found)


def _disagreement_lines(found: Sequence[Disagreement]) -> list[str]:
    head = f"\nPrediction and measurement disagree by more than 1 % in {len(found)} trial(s)"
    return [head, *(f"  {one.words}" for one in found)]
