"""A probed or predicted grid as text and rows. Pure: reads nothing, writes nothing."""

from collections.abc import Sequence
from dataclasses import replace

from bench.probe.choose import Verdict, verdict
from bench.probe.grid import MICRO_BATCHES
from bench.trials.trial import Trial
from distill.base.units import mib, percent, rate
from distill.report.tables import Row
from distill.report.text_table import terminal_columns, text_table
from distill.spec.image_files import count_of
from distill.spec.profile import Budget, Choice
from distill.spec.step_times import Quartiles, StepTiming


def stage_title(trials: Sequence[Trial]) -> str:
    """The stage and its models in one line."""
    candidate = trials[0].candidate
    taught = f", taught by {candidate.teacher.title}" if candidate.teacher else ", alone"
    return f"{candidate.stage}: {candidate.student.title}{taught}"


def stage_matrix(trials: Sequence[Trial], budget: Budget) -> str:
    """Peak MiB and share of the budget by micro-batch, a column a configuration; × is too large.

    The last lines: the largest micro-batch that fits, and how fast it is predicted to be.
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
    body.append(["img/s there", *(_rate_text(largest[column]) for column in columns)])
    heads = ["micro-batch", *columns]
    return text_table(heads, body, ["right"] * len(heads), terminal_columns())


def reasons_against(trials: Sequence[Trial]) -> list[str]:
    """A line for each reason why cells of a stage can't be, with the cells that it is against."""
    cells: dict[str, dict[str, list[int]]] = {}
    for trial in _by_batch(trials):
        if trial.outcome == "skipped" and trial.error is not None:
            labels = cells.setdefault(trial.error, {})
            labels.setdefault(trial.candidate.label, []).append(trial.candidate.micro_batch)
    lines = []
    for reason, labels in cells.items():
        alone = {batch for batches in labels.values() for batch in batches} == {1}
        which = f"{', '.join(labels)}{' at micro-batch 1' if alone else ''}"
        lines.append(f"– {which}: {reason}")
    return lines


def stage_rows(
    trials: Sequence[Trial], budget: Budget, effective: int, chosen: Choice | None
) -> list[Row]:
    """Every cell of a stage, a row each."""
    rows: list[Row] = []
    any_cached = any(trial.candidate.teacher_logits == "cached" for trial in trials)
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
                **({"teacher": trial.candidate.teacher_logits} if any_cached else {}),
                "micro-batch": str(trial.candidate.micro_batch),
                "accumulation": str(trial.candidate.accumulation),
                "peak MiB": mib(reading.reserved_bytes if reading else None),
                "share of budget": percent(reading.reserved_bytes or 0, budget.limit_bytes)
                if reading and reading.reserved_bytes
                else "–",
                "images/s": rate(trial.images_per_second),
                **_timing_cells(trial),
                "source": "–" if reading is None else reading.source,
                "verdict": _verdict_words(judged, chosen, is_chosen=is_chosen),
            }
        )
    return rows


def choice_line(choice: Choice, budget: Budget) -> str:
    """The chosen configuration in one line."""
    candidate = choice.candidate
    speed = rate(choice.images_per_second)
    fast, timed = f"at most {speed} images/s", ""
    if choice.source == "measured":
        fast = f"{speed} images/s"
    elif choice.predicted_timing is not None:
        fast = f"about {speed} images/s (bound by {choice.predicted_timing.words})"
    if choice.timing is not None:
        timed = f" ({timing_text(choice.timing, candidate.effective_batch)})"
    if choice.teacher_views is not None and choice.caching is not None:
        timed += (
            f"; before it its teacher's logits, {count_of(choice.teacher_views, 'view')} an image, "
            f"{mib(choice.caching.peak_bytes)} MiB, "
            f"{rate(choice.caching.images_per_second)} images/s"
        )
    return (
        f"→ {choice.stage}: {candidate.label}, {candidate.micro_batch} × "
        f"{candidate.accumulation} images, {mib(choice.peak_reserved_bytes)} MiB {choice.source} "
        f"({percent(choice.peak_reserved_bytes, budget.limit_bytes)} of the budget), {fast}{timed}"
    )


def timing_text(timing: StepTiming, images: int) -> str:
    """What the times of an update of so many images say: their spread, and what they wait for."""
    words = [
        f"quartiles {quartile_rates(timing.quartiles, images)}, "
        f"{timing.updates} updates in {timing.processes} process(es)"
    ]
    if timing.quartiles.is_unsteady:
        words.append("unsteady")
    if timing.bound_by is not None and timing.card_seconds is not None:
        busy = percent(timing.card_seconds, timing.quartiles.median_seconds)
        words.append(f"{timing.bound_by}-bound, the card's own time is {busy} of an update's")
    if timing.launches is not None:
        words.append(f"{timing.launches:,} launches an update")
    return "; ".join(words)


def quartile_rates(quartiles: Quartiles, images: int) -> str:
    """Images per second from the slow quartile to the fast one."""
    return f"{rate(images / quartiles.upper_seconds)}–{rate(images / quartiles.lower_seconds)}"


def _timing_cells(trial: Trial) -> Row:
    timing, predicted = trial.timing, trial.predicted_timing
    images = trial.candidate.effective_batch
    if predicted is not None:
        first = next(iter(predicted.shares))
        return {"quartiles": "–", "bound by": first, "launches": count_cell(predicted.launches)}
    return {
        "quartiles": "–" if timing is None else quartile_rates(timing.quartiles, images),
        "bound by": (None if timing is None else timing.bound_by) or "–",
        "launches": count_cell(None if timing is None else timing.launches),
    }


def count_cell(count: int | None) -> str:
    """A count with thousands separated; a dash where nothing was counted."""
    return "–" if count is None else f"{count:,}"


def _verdict_words(judged: Verdict, chosen: Choice | None, *, is_chosen: bool) -> str:
    """The verdict, and of a median that is faster than the chosen one's why it did not decide."""
    if is_chosen:
        return judged.words.replace("safe", "chosen")
    timing = None if chosen is None else chosen.timing
    faster = (
        judged.eligible
        and judged.trial.quartiles is not None
        and timing is not None
        and judged.trial.quartiles.median_seconds < timing.quartiles.median_seconds
    )
    return f"{judged.words}, faster only within the spread" if faster else judged.words


def _by_batch(trials: Sequence[Trial]) -> list[Trial]:
    order = {"fp32": 0, "fp16": 1, "bf16": 2}
    return sorted(
        trials,
        key=lambda t: (
            order[t.candidate.precision],
            t.candidate.checkpointing_order,
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
