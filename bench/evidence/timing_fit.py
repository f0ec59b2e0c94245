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
from itertools import product
from math import exp, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pydantic import BaseModel

from bench.card.detect import CardFacts
from bench.card.targets import target_like
from bench.probe.choose import best_of
from bench.simulate.families import begin_worker
from bench.simulate.predictor import Predictor
from bench.simulate.program.program import Program
from bench.simulate.program.step_time import predicted_timing
from bench.trials import SCHEMA, Measured, Predicted, Trial, by_stage, trial_of
from distill.base.errors import UserError, in_short
from distill.base.reading import MOST_BYTES, parsed_json, read_plain
from distill.base.worker_pool import map_in_processes
from distill.device.cores import available_cores
from distill.report.tables import Row, as_markdown
from distill.spec.calibration import ASSUMED, Calibration
from distill.spec.profile import Target
from distill.spec.step_times import PredictedTiming
from distill.spec.validated import read_as

FEW = 4
"""Up to so many timed trials tell nothing about constants that are fitted to half of them."""

ROUNDS, STEPS = 4, 7
"""Of the search for the constants: each round looks closer around the best of the one before."""

NONE_YET = "No update was timed on a card yet."


@dataclass(frozen=True, kw_only=True)
class TimedUpdate:
    """A measured trial and the program of its micro-batch, on the card that it ran on."""

    trial: Trial
    target: Target
    program: Program

    @property
    def seconds(self) -> float:
        """The lower quartile of its updates."""
        assert self.trial.quartiles is not None
        return self.trial.quartiles.lower_seconds

    @property
    def image_seconds(self) -> float:
        """The same, an image."""
        return self.seconds / self.trial.candidate.effective_batch

    def predicted(self, calibration: Calibration) -> PredictedTiming:
        """Its time by a machine's constants."""
        there = self.target.model_copy(update={"calibration": calibration})
        return predicted_timing(self.program, there, self.trial.candidate)

    def error(self, calibration: Calibration) -> float:
        """(predicted − measured) / measured."""
        return self.predicted(calibration).seconds / self.seconds - 1


def timing_table(folder: Path) -> str:
    """Every card's trials under a folder, predicted and measured; a sentence if there is none."""
    parts = []
    for path in sorted(folder.rglob("host.json")):
        host = read_as(_Host, path)
        if host.card is None:
            continue
        timed = timed_updates(path.parent, target_like(host.card))
        if timed:
            parts.append(_card_table(timed, f"{host.card.name} with {host.cores} cores"))
    return "\n\n".join(parts) or NONE_YET


def timed_updates(folder: Path, target: Target) -> list[TimedUpdate]:
    """The trials of a folder that timed the step, each with its program. Traces what it must."""
    trials = [trial for trial in _trials(folder) if trial.timing is not None]
    programs = _programs([(trial, target) for trial in trials])
    return [
        TimedUpdate(trial=trial, target=target, program=program)
        for trial, program in zip(trials, programs, strict=True)
    ]


def fitted(timed: Sequence[TimedUpdate], machine: str) -> Calibration:
    """The constants under which the mean error of the trials, as a logarithm, is least."""

    def badness(efficiency: float, launch_seconds: float) -> float:
        there = _constants(efficiency, launch_seconds, machine)
        return fmean(abs(log(1 + one.error(there))) for one in timed)

    best = (ASSUMED.product_efficiency, ASSUMED.launch_seconds)
    spread = log(4.0)
    for _ in range(ROUNDS):
        factors = [exp(spread * (2 * step / (STEPS - 1) - 1)) for step in range(STEPS)]
        tried = [(best[0] * one, best[1] * other) for one, other in product(factors, factors)]
        best = min(tried, key=lambda pair: badness(*pair))
        spread /= (STEPS - 1) / 2
    return _constants(*best, machine)


def _constants(efficiency: float, launch_seconds: float, machine: str) -> Calibration:
    return Calibration(
        product_efficiency=min(efficiency, 1.0),
        launch_seconds=launch_seconds,
        source="measured",
        machine=machine,
    )


def _programs(jobs: Sequence[tuple[Trial, Target]]) -> list[Program]:
    if len(jobs) <= FEW:  # further processes cost more than they bring
        return [_program(job) for job in jobs]
    found = map_in_processes(
        _program,
        jobs,
        processes=available_cores(),
        prepare=begin_worker,
        kept="The readings are as they were.",
    )
    return [program for _, program in sorted(found, key=lambda one: one[0])]


def _program(job: tuple[Trial, Target]) -> Program:
    """The program of one micro-batch and an update of the trial."""
    trial, target = job
    alone = replace(trial.candidate, images_per_epoch=None, evaluation_batch=None)
    return Predictor(target, trial.pins.allocator).program(alone)


def _card_table(timed: Sequence[TimedUpdate], machine: str) -> str:
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
        raise UserError(f"Cannot read trials from {path}: {in_short(error)}.") from error


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
