"""The `bench` command: parses, calls and prints. No torch is loaded before it is needed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from distill.candidate import (
    PRECISIONS,
    STAGES,
    Allocator,
    Implementation,
    Optimizer,
    Precision,
    StageName,
)
from distill.console import Above, Commands
from distill.errors import UserError

if TYPE_CHECKING:
    from bench.asked import Request
    from bench.measure.card import CardFacts
    from bench.probe import Probed
    from distill.profile import Profile, Target

VRAM = Above(0, 1024, " GiB")
BASELINE = Path("results/baseline/memory.json")

recipe_option = click.option(
    "--recipe", "recipe_name", default="cifar10", show_default=True, metavar="NAME|FILE",
    help="What is to be trained.",
)  # fmt: skip
allocator_option = click.option(
    "--allocator", type=click.Choice(get_args(Allocator)),
    help="PyTorch's allocator. Default: expandable on Linux, else native.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Find out what fits in a GPU's memory, with the GPU or without it."""


@main.command()
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
    from bench.asked import Request
    from bench.grid import profile_name
    from bench.probe import make_profile, settle
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
    ensure_folder(path.parent)
    ensure_folder(folder)
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


@main.command()
@click.argument("profile_path", type=click.Path(path_type=Path), metavar="PROFILE")
def verify(profile_path: Path) -> None:
    """Prove a profile on the GPU that is here: it fits under its cap, and not below it.

    Each choice trains in a fresh process for a minute or 200 updates, saves, loads and
    evaluates; then a few MiB less than predicted must not be enough. Exit code 1: not safe.
    """
    from bench.verify import verify as prove_all
    from bench.verify import with_verification
    from distill.profile import read_profile, write_profile

    profile = read_profile(profile_path)
    card = _card("cuda")
    assert card is not None
    verification = prove_all(profile, card, tell=click.echo)
    profile = with_verification(profile, verification, card)
    write_profile(profile_path, profile)
    click.echo(f"Wrote {profile_path} ({profile.status}, cap {verification.cap})")
    sys.exit(0 if verification.passed else 1)


@main.command()
@click.option("--stage", type=click.Choice(STAGES), required=True, help="A stage of the recipe.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at a time.")
@click.option("--max-batch", is_flag=True, help="Find the largest batch that fits in --vram.")
@click.option("--vram", type=VRAM, metavar="GIB", help="Memory of the card as its box says.")
@click.option("--accumulation", type=click.IntRange(min=1), default=1, show_default=True,
              metavar="N", help="Micro-batches an update; from the second on there are "
                                "gradients already.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option("--checkpointing", type=click.IntRange(min=0), default=0, show_default=True,
              metavar="K", help="Run every K-th block again in backward; 0 is off.")  # fmt: skip
@recipe_option
@click.option("--model", metavar="NAME", help="Another student, by timm name.")
@click.option("--teacher", metavar="NAME", help="Another teacher, by timm name.")
@click.option("--image-size", type=click.IntRange(min=1), metavar="PX")
@click.option("--classes", type=click.IntRange(min=2), metavar="N")
@click.option("--optimizer", type=click.Choice(get_args(Optimizer)))
@click.option("--implementation", type=click.Choice(get_args(Implementation)), default="fused",
              show_default=True, help="How the optimizer runs.")  # fmt: skip
@click.option("--target", "target_name", default="rtx4050", show_default=True, metavar="NAME")
@click.option("--deterministic", is_flag=True, help="With deterministic kernels only.")
@allocator_option
@json_option
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the timeline of one update.")  # fmt: skip
@click.option("--explain", is_flag=True, help="What would help most, predicted.")
def predict(
    stage: StageName,
    batch_size: int | None,
    max_batch: bool,
    vram: float | None,
    accumulation: int,
    precision: Precision,
    checkpointing: int,
    recipe_name: str,
    model: str | None,
    teacher: str | None,
    image_size: int | None,
    classes: int | None,
    optimizer: Optimizer | None,
    implementation: Implementation,
    target_name: str,
    deterministic: bool,
    allocator: Allocator | None,
    as_json: bool,
    plot: Path | None,
    explain: bool,
) -> None:
    """Predict one configuration: peaks, and who owns each byte. Needs no GPU."""
    from bench.ask import Ask, answer
    from bench.cards import assumed_budget, target_named
    from bench.question import Question, candidate_for
    from distill.pins import default_allocator
    from distill.recipe import load_recipe

    if max_batch == (batch_size is not None):
        raise UserError("Give either --batch-size N, or --max-batch with --vram GIB.")
    if max_batch and vram is None:
        raise UserError("--max-batch needs --vram GIB: the memory that the batch is to fit in.")
    question = Question(
        stage=stage,
        batch_size=batch_size or 1,
        accumulation=accumulation,
        precision=precision,
        checkpointing=checkpointing,
        optimizer=optimizer,
        implementation=implementation,
        model=model,
        teacher=teacher,
        image_size=image_size,
        classes=classes,
        deterministic=deterministic,
    )
    ask = Ask(
        candidate=candidate_for(load_recipe(recipe_name), question),
        target=target_named(target_name),
        allocator=allocator or default_allocator(),
        limit_bytes=None if vram is None else assumed_budget(vram).limit_bytes,
        max_batch=max_batch,
        as_json=as_json,
        plot=plot,
        explain=explain,
    )
    click.echo(answer(ask))


@main.command()
@click.argument("baseline_path", type=click.Path(path_type=Path), default=BASELINE,
                metavar=f"[BASELINE={BASELINE}]")  # fmt: skip
@click.argument("current_path", type=click.Path(path_type=Path), required=False,
                metavar="[CURRENT]")  # fmt: skip
@recipe_option
@click.option("--target", "target_name", default="rtx4050", show_default=True, metavar="NAME")
@click.option("--tolerance", type=click.FloatRange(min=0), default=0.0, metavar="PCT",
              help="How far a peak may move, in percent. Default: not at all.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="The table as Markdown.")
@json_option
@click.option("--update", is_flag=True, help="Write the baseline anew and say what changed.")
def compare(
    baseline_path: Path,
    current_path: Path | None,
    recipe_name: str,
    target_name: str,
    tolerance: float,
    markdown: bool,
    as_json: bool,
    update: bool,
) -> None:
    """Predict the baseline's cells again and compare: memory regression without a GPU.

    Exit code 0: the same. 1: something is worse or missing. 5: nothing is worse, something is
    better or new, so the baseline is stale. CURRENT compares with a file instead of predicting.
    """
    from bench.cards import target_named
    from bench.compare import (
        check_versions,
        compare_text,
        exit_code,
        read_baseline,
        write_baseline,
    )
    from bench.compare import compare as compare_cells
    from bench.regression import predict_baseline
    from distill.recipe import load_recipe

    old = None if update and not baseline_path.exists() else read_baseline(baseline_path)
    if current_path is not None:
        new = read_baseline(current_path)
    else:
        if old is not None and not update:
            check_versions(old, baseline_path)
        new = predict_baseline(load_recipe(recipe_name), target_named(target_name))
    differences = compare_cells(old.cells if old else (), new.cells, tolerance_percent=tolerance)
    click.echo(compare_text(differences, markdown=markdown, as_json=as_json))
    if update:
        write_baseline(baseline_path, new)
        click.echo(f"Wrote {baseline_path}.", err=True)
        return
    sys.exit(exit_code(differences))


@main.command()
@recipe_option
@json_option
def audit(recipe_name: str, as_json: bool) -> None:
    """Hold the original write-up's figures against what is predicted for them."""
    from bench.audit import audit_text
    from bench.auditing import find_all
    from distill.recipe import load_recipe

    click.echo(audit_text(find_all(load_recipe(recipe_name)), as_json=as_json))


@main.command()
@click.option("--minutes", type=Above(0, 120, " minutes"), default=9.0, show_default=True,
              help="Be done by then.")  # fmt: skip
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
    from bench.evidence import run_evidence
    from bench.evidence_plan import plan, small_plan
    from bench.evidence_session import Request
    from bench.evidence_tables import tables as make_tables
    from distill.files import ensure_folder, write_text
    from distill.profile import read_profile
    from distill.recipe import load_recipe
    from distill.signals import stop_on_signals

    if tables:
        text = make_tables(out)
        if out.is_dir():
            write_text(out / "tables.md", text)
        click.echo(text, nl=False)
        return
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
    )
    with stop_on_signals() as stop:
        parts = run_evidence(request, stop)
    sys.exit(0 if all(part["done"] for part in parts) else 1)


@main.command()
@json_option
@click.option("--brief", is_flag=True,
              help="At most one line on stderr, when no GPU can be used; never fails.")  # fmt: skip
def doctor(as_json: bool, brief: bool) -> None:
    """Look at the machine: each problem with its cure. Exit code 1 when there is one."""
    from bench.doctor import doctor_text, gpu_problem, problems
    from bench.measure.machine import quick_facts, whole_facts, written_folders

    if brief:
        problem = gpu_problem(quick_facts())
        if problem is not None:
            click.echo(f"Note: {problem}", err=True)
        return
    facts = whole_facts(written_folders())
    click.echo(doctor_text(facts, as_json=as_json))
    sys.exit(1 if problems(facts) else 0)


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
    from bench.trialplots import draw_trials
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
    click.echo("\n".join(draw_trials(request, probed, profile, folder)))
