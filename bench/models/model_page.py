"""What is known of the models that are compared, as a page of tables."""

from textwrap import fill

from bench.card.budget import CONTEXT_BYTES, MARGIN_BYTES
from bench.card.cards import card_notes
from bench.card.releases import release_notes
from bench.card.targets import target_line
from bench.models.compared_models import Comparison
from bench.models.model_changes import checkpointing_rows, grid_rows, precision_rows
from bench.models.model_documents import ModelsAnswer
from bench.models.model_figures import short_title
from bench.models.model_tables import (
    accuracy_table_rows,
    recorded_rows,
    size_rows,
    training_rows,
)
from distill.base.units import mib
from distill.report.tables import Row, as_markdown, as_text, exact_mib

PAGE_WIDTH = 80
"""Characters that sentences are folded to."""

OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}


def page_of(found: ModelsAnswer, *, markdown: bool) -> str:
    """All tables; before them what they are of, behind them what is to be known of them."""
    heading, table = ("## ", as_markdown) if markdown else ("", as_text)
    parts = [about(found.plan) if markdown else _folded(about(found.plan))]
    parts += [f"{heading}{title}\n\n{table(rows)}" for title, rows in tables_of(found).items()]
    lines = [f"- {note}" if markdown else _folded(note) for note in notes(found)]
    return "\n\n".join([*parts, "\n".join(lines)])


def _folded(sentence: str) -> str:
    return fill(sentence, PAGE_WIDTH, break_on_hyphens=False, break_long_words=False)


def about(plan: Comparison) -> str:
    """What is compared, on which card, within which limit."""
    alone = plan.models[0][0]
    return (
        f"Each model trained alone on {plan.recipe.dataset} at {alone.student.image_size} px with "
        f"{OPTIMIZERS[alone.optimizer]}, for {target_line(plan.target)}: "
        f"{mib(plan.limit_bytes)} MiB for PyTorch, once {mib(CONTEXT_BYTES)} MiB of CUDA context "
        f"and {mib(MARGIN_BYTES)} of margin, both assumed, are taken off."
    )


def tables_of(found: ModelsAnswer) -> dict[str, list[Row]]:
    """Every table by its title, in the order in which they are read."""
    plan, models = found.plan, found.models
    images = f"{plan.micro_batch} image{'s' if plan.micro_batch > 1 else ''}"
    tables = {
        "Size: parameters and the memory of the weights": size_rows(models),
        f"Training in {plan.precision}, {images} an update, nothing run again": training_rows(
            plan, models, found.timed
        ),
        f"Accuracy on the test images of {plan.recipe.dataset}": accuracy_table_rows(
            plan, models, found.scores
        ),
        f"Checkpointing, {images}, predicted: range over {', '.join(plan.precisions)}": (
            checkpointing_rows(plan, models)
        ),
        f"Half precision against fp32, {images}, predicted: range over what is run again": (
            precision_rows(plan, models)
        ),
        f"Every configuration, {images}: peak MiB and images/s, predicted": grid_rows(plan, models),
        f"Peaks that cards recorded, {images}": recorded_rows(found.recordings),
    }
    return {title: rows for title, rows in tables.items() if rows}


def notes(found: ModelsAnswer) -> list[str]:
    """What the words of the tables mean, what is missing, and what is only a bound."""
    plan = found.plan
    return [
        "peak: what PyTorch reserves at its most, predicted. needs: what has to be there for the "
        "run to go through, cuDNN's workspaces as large as they may be; share: of the limit; "
        "×: does not fit. fits up to: images an update. claims, claimed: the write-up's figures.",
        *_bounds(found),
        "run again: blocks whose activations are made again in backward; cheap makes all again "
        "but matrix products, convolutions and attention.",
        "In training weights are fp32 in every precision (autocast); 16-bit is their size in an "
        "export.",
        *_lacking(found),
        *release_notes(),
        *card_notes(plan.target, half=True),
        *one_of_them(plan),
    ]


def one_of_them(plan: Comparison) -> list[str]:
    """The command that predicts one model's cell, and what it is; none where no command can.

    A model is trained alone in the recipe's first stage: by its name, or without one where it is
    that stage's own. Another stage's own has a teacher beside it there.
    """
    stage = plan.recipe.stage[0].name
    for student in [cells[0].student for cells in plan.models]:
        is_own = student == plan.recipe.candidate(stage).student
        if is_own or student.title == student.name:
            model = "" if is_own else f" --model {short_title(student)}"
            batch = f"--batch-size {plan.micro_batch} --precision {plan.precision}"
            return [
                "One of them, byte by byte (with the same --recipe, --vram and --target):",
                f"bench predict --stage {stage}{model} {batch}",
            ]
    return []


def _bounds(found: ModelsAnswer) -> list[str]:
    """How much of each first cell's maximum is a bound, as `bench predict` says it of one."""
    first = [(one.name, one.cell(found.plan.precision, 0)) for one in found.models]
    sizes = [
        f"{exact_mib(cell.bound_bytes)} MiB of {name}"
        for name, cell in first
        if cell is not None and cell.bound_bytes
    ]
    if not sizes:
        return []
    return [
        f"Of what it needs, {', '.join(sizes)} are a bound for cuDNN: some of its workspaces for "
        "convolutions only a card can tell."
    ]


def _lacking(found: ModelsAnswer) -> list[str]:
    """Configurations that can't be, and models of which no run is there."""
    lines = []
    for one in found.models:
        reasons: dict[str, list[str]] = {}
        for cell in one.cells:
            if cell.refused is not None:
                reasons.setdefault(cell.refused, []).append(cell.candidate.label)
        lines += [f"{one.name}, {', '.join(cells)}: {why}" for why, cells in reasons.items()]
    trained = {score.model for score in found.scores}
    untrained = [one.name for one in found.models if one.model not in trained]
    if untrained:
        lines.append(
            f"No run below results/ trained {' or '.join(untrained)} on "
            f"{found.plan.recipe.dataset}: distill run trains, --run names a run elsewhere."
        )
    return lines
