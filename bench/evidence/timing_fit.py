"""Predicted times of updates held against measured ones; the two constants fitted to half of them.

Of the timed trials of a card, in the order in which they were made, the first, third … fit the
constants of its machine, and the others, unseen, are predicted with them. A trial's time is its
lower quartile: what the machine takes when little disturbs it. Measures nothing; traces in
processes of its own.
"""

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel

from bench.card.detect import CardFacts
from bench.card.targets import target_like
from bench.probe.choose import best_of
from bench.simulate.families import map_traces
from bench.simulate.predictor import Predictor
from bench.simulate.program.constants_fit import ObservedUpdate, fitted
from bench.simulate.program.program import Program
from bench.trials.journal import SCHEMA, trial_of
from bench.trials.trial import Measured, Predicted, Trial, by_stage
from distill.base.errors import UserError
from distill.base.reading import MOST_BYTES, parsed_json, read_plain
from distill.report.tables import Row, as_markdown
from distill.spec.calibration import ASSUMED, Calibration
from distill.spec.profile import Target
from distill.spec.validated import read_as, reason_of

FEW = 4
"""Up to so many timed trials tell nothing about constants that are fitted to half of them."""

NONE_YET = "No update was timed on a card yet."


@dataclass(frozen=True, kw_only=True)
class TimedUpdate(ObservedUpdate):
    """A measured trial as an update that was observed: it took its lower quartile."""

    trial: Trial

    @property
    def image_seconds(self) -> float:
        """Seconds of an image."""
        return self.seconds / self.candidate.effective_batch


def timed_update(trial: Trial, target: Target, program: Program) -> TimedUpdate:
    """The trial, which was timed, with the program of its micro-batch."""
    assert trial.quartiles is not None
    return TimedUpdate(
        trial=trial,
        target=target,
        program=program,
        candidate=trial.candidate,
        seconds=trial.quartiles.lower_seconds,
    )


@dataclass(frozen=True)
class TimedMachine:
    """A machine as its constants name it, and the updates that were timed on it."""

    name: str
    updates: list[TimedUpdate]


def timing_table(machines: Sequence[TimedMachine]) -> str:
    """Every machine's trials, predicted and measured; a sentence if there is none."""
    return "\n\n".join(_table_of(one.updates, one.name) for one in machines) or NONE_YET


def calibrated_target(machines: Sequence[TimedMachine]) -> Target | None:
    """The card of the one machine with the constants of it, fitted to all that was timed there.

    `None` where there is none or more than one, or where too few updates were timed.
    """
    if len(machines) != 1 or len(machines[0].updates) <= FEW:
        return None
    timed = machines[0].updates
    calibration = fitted(timed, machines[0].name)
    return timed[0].target.model_copy(update={"calibration": calibration})


def timed_machines(folder: Path) -> list[TimedMachine]:
    """The machines that timed updates under a folder. Raises `UserError` for damaged files."""
    found = []
    for path in sorted(folder.rglob("host.json")):
        host = read_as(_Host, path)
        if host.card is not None:
            timed = timed_updates(path.parent, target_like(host.card))
            found.append(TimedMachine(f"{host.card.name} with {host.cores} cores", timed))
    return [machine for machine in found if machine.updates]


def timed_updates(folder: Path, target: Target) -> list[TimedUpdate]:
    """The trials of a folder that timed the step, each with its program. Traces what it must."""
    trials = [trial for trial in _trials(folder) if trial.timing is not None]
    jobs = [(trial, target) for trial in trials]
    programs = map_traces(_program, jobs, kept="The readings are as they were.")
    return [
        timed_update(trial, target, program)
        for trial, program in zip(trials, programs, strict=True)
    ]


def _program(job: tuple[Trial, Target]) -> Program:
    """The program of one micro-batch and an update of the trial."""
    trial, target = job
    alone = replace(trial.candidate, images_per_epoch=None, evaluation_batch=None)
    return Predictor(target, trial.pins.allocator).program(alone)


def _table_of(timed: Sequence[TimedUpdate], machine: str) -> str:
    seen, unseen = timed[0::2], timed[1::2]
    if len(unseen) < FEW:
        seen, constants = [], ASSUMED
        unseen = timed
    else:
        constants = fitted(seen, machine)
    fitted_to = {id(one) for one in seen}
    rows = [_row(one, constants, is_seen=id(one) in fitted_to) for one in timed]
    return "\n\n".join(
        [
            f"{machine}, {len(timed)} timed trials. "
            + (f"Fitted to {len(seen)} of them: " if seen else "")
            + constants.words
            + ".",
            as_markdown(rows),
            _summary(seen, unseen, constants),
            choice_lines(timed, constants),
        ]
    )


def _row(one: TimedUpdate, constants: Calibration, *, is_seen: bool) -> Row:
    candidate, quartiles, timing = (
        one.trial.candidate,
        one.trial.quartiles,
        one.predicted(constants),
    )
    assert quartiles is not None
    return {
        "stage": candidate.stage,
        "configuration": candidate.label,
        "batch": f"{candidate.micro_batch} × {candidate.accumulation}",
        "measured ms (quartiles)": " – ".join(
            f"{1000 * s:.1f}"
            for s in (quartiles.lower_seconds, quartiles.median_seconds, quartiles.upper_seconds)
        ),
        "predicted ms": f"{1000 * timing.seconds:.1f}",
        "off by": f"{one.error(constants):+.1%}",
        "of the median": f"{timing.seconds / quartiles.median_seconds - 1:+.1%}",
        "bound by (predicted)": timing.words,
        "launches (predicted)": f"{timing.launches:,}",
        "": "fitted to" if is_seen else "unseen",
    }


def _summary(
    seen: Sequence[TimedUpdate], unseen: Sequence[TimedUpdate], constants: Calibration
) -> str:
    words = []
    for name, group in (("fitted to", seen), ("unseen", unseen)):
        if group:
            errors = [abs(one.error(constants)) for one in group]
            words.append(
                f"{name} ({len(group)}) median {median(errors):.1%}, worst {max(errors):.1%}"
            )
    return f"Absolute error against the lower quartile: {'; '.join(words)}."


def choice_lines(timed: Sequence[TimedUpdate], constants: Calibration) -> str:
    """What would be chosen of these trials by prediction alone, and how fast it was measured."""
    by_candidate = {one.trial.candidate: one for one in timed}
    lines = []
    for stage, mine in by_stage(_as_predicted(one, constants) for one in timed).items():
        chosen = by_candidate[best_of(mine).candidate]
        best = min((by_candidate[t.candidate] for t in mine), key=lambda one: one.image_seconds)
        lines.append(
            f"- {stage}: {_name(chosen)} would be chosen; the fastest measured, {_name(best)}, "
            f"took {100 * (1 - best.image_seconds / chosen.image_seconds):.1f} % less an image"
        )
    return "Chosen by prediction alone, of these trials:\n\n" + "\n".join(lines)


def _as_predicted(one: TimedUpdate, constants: Calibration) -> Trial:
    """The trial as if nothing but its memory and its predicted time were known."""
    assert isinstance(one.trial.reading, Measured)
    held = one.trial.reading.reserved_bytes or 0
    timing = one.predicted(constants)
    reading = Predicted(
        requested_bytes=held,
        allocated_bytes=held,
        reserved_bytes=held,
        reserved_max_bytes=held,
        cap_needed_bytes=held,
        breakdown={},
        bound_images_per_second=0.0,
        timing=timing,
    )
    return replace(one.trial, reading=reading)


def _name(one: TimedUpdate) -> str:
    candidate = one.trial.candidate
    return f"{candidate.label} {candidate.micro_batch} × {candidate.accumulation}"


class _Host(BaseModel):
    """What a file of the host tells of its card."""

    card: CardFacts | None
    cores: int | None = None


def _trials(folder: Path) -> list[Trial]:
    """The trials of a journal, and the contestants that ran the step, in their order.

    Raises `UserError` for a file that holds none.
    """
    found: list[Trial] = []
    for path in sorted(folder.glob("trials.jsonl.gz")):
        found += [trial_of(path, document) for document in _unpacked(path)]
    for path in sorted(folder.glob("throughput.json")):
        found += [trial_of(path, one) for one in read_as(_Steps, path).documents()]
    return found


def _unpacked(path: Path) -> list[Any]:
    """The documents in a packed journal."""
    try:
        with gzip.open(io.BytesIO(read_plain(path))) as packed:
            return [parsed_json(line) for line in packed.read(MOST_BYTES).splitlines()]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"Cannot read trials from {path}: {reason_of(error)}.") from error


class _Steps(BaseModel):
    """Timed contestants, as `throughput` writes them."""

    trials: list[dict[str, Any]]

    def documents(self) -> list[dict[str, Any]]:
        """Those that ran the step, as lines of a journal."""
        names = {field.name for field in fields(Trial)}
        return [
            {"schema": SCHEMA} | {name: one[name] for name in names & one.keys()}
            for one in self.trials
            if one.get("by") == "step"
        ]
