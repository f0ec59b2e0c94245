"""Kill a measuring probe at random moments and let it go on: prints what came of it as JSON.

`python -m tests.bench.probe.killed_probe FOLDER KILLS`. Each round is a real process, forked from
this one and ended by SIGKILL; what runs on the imaginary card is real but for the card.
"""

import json
import os
import random
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from bench.card.detect import CardFacts
from bench.card.targets import target_named
from bench.measure.isolate import Ended
from bench.probe.grid import cells, effective_batches, families
from bench.probe.measure_grid import measure_grid
from bench.probe.probe_plan import plan_probe
from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.signals import StopRequest
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from tests.bench.conftest import CONDITIONS, MIB, predicted_reading

RECIPE = load_recipe("cifar10")
TARGET = target_named("rtx4050")
CARD = CardFacts(
    name="imaginary",
    compute_capability=(8, 9),
    multiprocessors=20,
    threads_per_multiprocessor=1536,
    total_bytes=TARGET.total_bytes,
    free_bytes=TARGET.total_bytes - 300 * MIB,
    context_bytes=300 * MIB,
    others_bytes=0,
    driver="580.1",
)


def peak_and_rate(cell: Candidate) -> tuple[int, float]:
    """What the imaginary card shows of a cell."""
    half = cell.precision != "fp32"
    image_mib = 90 * (0.55 if half else 1) / (1 + 1.5 * cell.checkpointing_order)
    peak = 900 + image_mib * cell.micro_batch
    return int(peak * MIB), (200 if half else 100) * cell.micro_batch / (cell.micro_batch + 1)


def predicted() -> list[Trial]:
    """The grid as it would be predicted."""
    effective = effective_batches(RECIPE)
    pins = pins_for("fp16", (8, 9), deterministic=False, allocator="expandable")
    trials = []
    for family in families(RECIPE, TARGET):
        for cell in cells(family, effective[family.stage]):
            peak, rate = peak_and_rate(cell)
            reading = predicted_reading(peak, 1.6 * rate)
            trials.append(
                Trial(
                    candidate=cell, conditions=CONDITIONS, pins=pins, outcome="ok", reading=reading
                )
            )
    return trials


def run_on_card(job_path: Path, result_path: Path, limit: float) -> Ended:
    """A trial that takes a moment."""
    time.sleep(0.002)
    from pydantic import TypeAdapter

    job = json.loads(job_path.read_text())
    peak, rate = peak_and_rate(TypeAdapter(Candidate).validate_python(job["candidate"]))
    if peak > job["cap_bytes"]:
        result_path.write_text(json.dumps({"outcome": "oom", "error": "full"}))
        return Ended(0, "")
    reading = {"source": "measured", "reserved_bytes": peak, "step_seconds": [128 / rate]}
    result_path.write_text(json.dumps({"outcome": "ok", "reading": reading}))
    return Ended(0, "")


def measure(path: Path, grid: list[Trial]) -> None:
    """Measure the grid into a journal, or go on with it."""
    plan = plan_probe(
        recipe=RECIPE,
        vram_gib=6,
        target=TARGET,
        card=CARD,
        allocator="expandable",
        device="cuda",
        name="killed",
        journal=path,
    )
    journal = Journal(path)
    measure_grid(plan, journal, grid, StopRequest(), lambda _: nullcontext(run_on_card))


def killed_at(seconds: float, path: Path, grid: list[Trial]) -> bool:
    """Whether a process that measures was killed before it was done."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        measure(path, grid)
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def lines(path: Path) -> list[str]:
    """What each whole line of a journal says was done, in order."""
    return [
        json.dumps([asdict(t.candidate), t.outcome, t.error], sort_keys=True)
        for t in Journal(path).trials
    ]


def main() -> None:
    """Compare journals of killed probes with one that was left alone."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    grid, draw = predicted(), random.Random(5)
    began = time.monotonic()
    measure(folder / "whole.jsonl", grid)
    whole, took = lines(folder / "whole.jsonl"), time.monotonic() - began
    done, number, torn, wrong = 0, 0, 0, []
    path = folder / "0.jsonl"
    while done < kills:
        if killed_at(draw.uniform(0, took), path, grid):
            done += 1
            torn += Journal(path).torn
            continue
        if lines(path) != whole:
            wrong.append(path.name)
        number += 1
        path = folder / f"{number}.jsonl"
    measure(path, grid)
    if lines(path) != whole:
        wrong.append(path.name)
    print(json.dumps({"kills": done, "wrong": wrong, "lines": len(whole), "torn": torn}))


if __name__ == "__main__":
    main()
