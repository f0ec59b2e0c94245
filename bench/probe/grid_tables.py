"""A probed or predicted grid as text and rows. Pure: reads nothing, writes nothing."""

from collections.abc import Sequence
from dataclasses import replace

from tabulate import tabulate

from bench.probe.choose import verdict
from bench.probe.grid import MICRO_BATCHES
from bench.trials import Trial
from distill.base.units import mib, percent, rate
from distill.report.tables import Row
from distill.spec.profile import Budget, Choice


def stage_title(trials: Sequence[Trial]) -> str:
    """The stage and its models in one line."""
    candidate = trials[0].candidate
    taught = f", taught by {candidate.teacher.title}" if candidate.teacher else ", alone"
    return f"{candidate.stage}: {candidate.student.title}{taught}"


def stage_matrix(trials: Sequence[Trial], budget: Budget) -> str:
    """Peak MiB and share of the budget by micro-batch, a column a configuration; × is too large.

    The last lines: the largest micro-batch that fits, and how fast it can be at most.
    """
    columns = list(dict.fromkeys(t.candidate.label for t in _by_batch(trials)))
    batches = [b for b in MICRO_BATCHES if any(t.candidate.micro_batch == b for t in trials)]
    cell = {(t.candidate.micro_batch, t.candidate.label): t for t in trials}
    body = [
        [f"{batch}", *(_cell(cell.get((batch, column)), budget) for column in columns)]
        for batch in batches
    ]
    largest = {
        column: _largest([t for t in trials if t.candidate.label == column]) for column in columns
    }
    body.append(["fits up to", *(_batch_text(largest[column]) for column in columns)])
    body.append(["img/s there ≤", *(_rate_text(largest[column]) for column in columns)])
    return tabulate(
        body,
        headers=["micro-batch", *columns],
        tablefmt="simple",
        disable_numparse=True,
        stralign="right",
    )


def stage_rows(
    trials: Sequence[Trial], budget: Budget, effective: int, chosen: Choice | None
) -> list[Row]:
    """Every cell of a stage, a row each."""
    rows = []
    for trial in _by_batch(trials):
        judged = verdict(trial, budget, effective)
        reading = trial.reading
        is_chosen = chosen is not None and trial.candidate == replace(
            chosen.candidate, evaluation_batch=None
        )
        rows.append(
            {
                "precision": trial.candidate.precision,
                "checkpointing": str(trial.candidate.checkpointing),
                "micro-batch": str(trial.candidate.micro_batch),
                "accumulation": str(trial.candidate.accumulation),
                "peak MiB": mib(reading.reserved_bytes if reading else None),
                "share of budget": percent(reading.reserved_bytes or 0, budget.limit_bytes)
                if reading and reading.reserved_bytes
                else "–",
                "images/s": rate(trial.images_per_second),
                "source": "–" if reading is None else reading.source,
                "verdict": "chosen" if is_chosen else judged.words,
            }
        )
    return rows


def choice_line(choice: Choice, budget: Budget) -> str:
    """The chosen configuration in one line."""
    candidate = choice.candidate
    speed = rate(choice.images_per_second)
    fast = f"{speed} images/s" if choice.source == "measured" else f"at most {speed} images/s"
    return (
        f"→ {choice.stage}: {candidate.label}, {candidate.micro_batch} × "
        f"{candidate.accumulation} images, {mib(choice.peak_reserved_bytes)} MiB {choice.source} "
        f"({percent(choice.peak_reserved_bytes, budget.limit_bytes)} of the budget), {fast}"
    )


def _by_batch(trials: Sequence[Trial]) -> list[Trial]:
    order = {"fp32": 0, "fp16": 1, "bf16": 2}
    return sorted(
        trials,
        key=lambda t: (
            order[t.candidate.precision],
            t.candidate.checkpointing,
            t.candidate.micro_batch,
        ),
    )


def _cell(trial: Trial | None, budget: Budget) -> str:
    if trial is None or trial.reading is None or trial.reading.reserved_bytes is None:
        return "–"
    size = trial.reading.reserved_bytes
    if trial.outcome != "ok":
        return f"{mib(size)}  ×  "
    return f"{mib(size)} {100 * size / budget.limit_bytes:3.0f} %"


def _largest(trials: Sequence[Trial]) -> Trial | None:
    fitting = [trial for trial in trials if trial.outcome == "ok"]
    return max(fitting, key=lambda trial: trial.candidate.micro_batch, default=None)


def _batch_text(trial: Trial | None) -> str:
    return "none" if trial is None else str(trial.candidate.micro_batch)


def _rate_text(trial: Trial | None) -> str:
    return "–" if trial is None else rate(trial.images_per_second)
