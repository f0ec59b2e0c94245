"""The `bench` command: parses, calls and prints. No torch is loaded before it is needed."""

import sys
from pathlib import Path
from typing import get_args

import click

from bench.options import VRAM, allocator_option, json_option, recipe_option
from bench.probe.command import evidence, probe, verify
from distill.base.console import Commands
from distill.base.errors import UserError
from distill.spec.candidate import (
    PRECISIONS,
    STAGES,
    Allocator,
    Implementation,
    Optimizer,
    Precision,
    StageName,
)

MOST_IMAGES = 65536
BASELINE = Path("results/baseline/memory.json")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Find out what fits in a GPU's memory, with the GPU or without it."""


for command in (probe, verify, evidence):
    main.add_command(command)


@main.command(short_help="One configuration: peaks, and whose each byte is.")
@click.option("--stage", type=click.Choice(STAGES), required=True, help="A stage of the recipe.")
@click.option(
    "--batch-size", type=click.IntRange(1, MOST_IMAGES), metavar="N", help="Images at a time."
)
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
@click.option("--target", "target_name", default="rtx4050", show_default=True,
              metavar="NAME|auto", help="The card; auto: the one that is here.")  # fmt: skip
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
    from bench.card.targets import assumed_budget
    from bench.predict.answer import Ask, answer
    from bench.predict.question import Question, candidate_for
    from bench.probe.grid_pictures import check_picture
    from bench.probe.probe_plan import target_asked
    from distill.spec.pins import default_allocator
    from distill.spec.recipe import load_recipe

    if max_batch == (batch_size is not None):
        raise UserError("Give either --batch-size N, or --max-batch with --vram GIB.")
    if max_batch and vram is None:
        raise UserError("--max-batch needs --vram GIB: the memory that the batch is to fit in.")
    if plot is not None:
        check_picture(plot)
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
        target=target_asked(target_name),
        allocator=allocator or default_allocator(),
        limit_bytes=None if vram is None else assumed_budget(vram).limit_bytes,
        max_batch=max_batch,
        as_json=as_json,
        plot=plot,
        explain=explain,
    )
    click.echo(answer(ask))


@main.command(short_help="Memory regression against committed predictions.")
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
    from bench.card.targets import target_named
    from bench.compare.cells import predict_baseline
    from bench.compare.compare import (
        check_question,
        check_versions,
        compare_text,
        exit_code,
        read_baseline,
        write_baseline,
    )
    from bench.compare.compare import compare as compare_cells
    from distill.spec.recipe import load_recipe

    old = None if update and not baseline_path.exists() else read_baseline(baseline_path)
    if current_path is not None:
        new = read_baseline(current_path)
        if old is not None:
            check_question(old, baseline_path, target=new.target, recipe=new.recipe)
    else:
        recipe, target = load_recipe(recipe_name), target_named(target_name)
        if old is not None:
            check_question(old, baseline_path, target=target.name, recipe=recipe.name)
        if old is not None and not update:
            check_versions(old, baseline_path)
        new = predict_baseline(recipe, target)
    differences = compare_cells(old.cells if old else (), new.cells, tolerance_percent=tolerance)
    click.echo(compare_text(differences, markdown=markdown, as_json=as_json, updated=update))
    if update:
        write_baseline(baseline_path, new)
        click.echo(f"Wrote {baseline_path}.", err=True)
        return
    sys.exit(exit_code(differences))


@main.command(short_help="The original write-up's figures, held against.")
@recipe_option
@json_option
def audit(recipe_name: str, as_json: bool) -> None:
    """Hold the original write-up's figures against what is predicted for them."""
    from bench.audit.audit import find_all
    from bench.audit.rules import audit_text
    from distill.spec.recipe import load_recipe

    click.echo(audit_text(find_all(load_recipe(recipe_name)), as_json=as_json))


@main.command(short_help="The machine: each problem with its cure.")
@json_option
@click.option("--brief", is_flag=True,
              help="At most one line on stderr, when no GPU can be used; never fails.")  # fmt: skip
def doctor(as_json: bool, brief: bool) -> None:
    """Look at the machine: each problem with its cure. Exit code 1 when there is one."""
    from bench.doctor.facts import quick_facts, whole_facts, written_folders
    from bench.doctor.problems import doctor_text, gpu_problem, problems

    if brief:
        problem = gpu_problem(quick_facts())
        if problem is not None:
            click.echo(f"Note: {problem}", err=True)
        return
    facts = whole_facts(written_folders())
    click.echo(doctor_text(facts, as_json=as_json))
    sys.exit(1 if problems(facts) else 0)
