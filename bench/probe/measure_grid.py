"""Measuring what predictions recommend, each trial in a fresh child, each in the journal at once.

On CUDA `search` decides what is worth a trial; on a CPU, where only times are to be had, the
largest batches of fp32 are timed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version

from bench.measure.forkserver import ForkServer
from bench.measure.isolate import Runner, run_trial
from bench.measure.worker import Job
from bench.probe.choose import verdict
from bench.probe.grid import effective_batches, same_family
from bench.probe.grid_tables import by_stage
from bench.probe.probe_plan import Request
from bench.probe.search import SHARE_OF_GRID, Searched, search
from bench.trials import Conditions, Journal, Trial, measurement_digest
from distill.base.progress import Progress
from distill.base.signals import StopRequest
from distill.spec.candidate import Candidate, StageName
from distill.spec.pins import pins_for
from distill.spec.profile import Budget

TIMED_PER_FAMILY = 2
"""How many micro-batches of a family are timed on a CPU, from the largest that may be chosen."""

CONTAMINATED_TRIES = 3
"""How often a trial that another process disturbed is made, all told."""

Servers = Callable[[Request], AbstractContextManager[Runner]]


def measured_conditions(request: Request) -> Conditions:
    """What readings of the device that is here hold for."""
    card = request.card if request.device == "cuda" else None
    return Conditions(
        card="cpu" if card is None else card.name,
        driver=None if card is None else card.driver,
        cap_bytes=None if card is None else request.budget.limit_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=measurement_digest(),
    )


def fork_server(request: Request) -> AbstractContextManager[Runner]:
    """What runs the children: forks of one process that has torch loaded."""
    return ForkServer(allocator=request.allocator)


def measure_grid(
    request: Request,
    journal: Journal,
    predicted: Sequence[Trial],
    stop: StopRequest,
    servers: Servers = fork_server,
) -> list[Trial]:
    """Run what predictions recommend; say of the rest why it was not tried."""
    conditions = measured_conditions(request)
    effective = effective_batches(request.recipe)
    found: list[Trial] = []
    with servers(request) as runner:
        bench = _Bench(request, conditions, journal, runner, stop)
        for stage, cells in by_stage(predicted).items():
            searched = _search(bench, cells, effective[stage])
            found += [*searched.measured, *_skipped(bench, searched)]
    return found


@dataclass
class _Bench:
    """One device and its journal: measures a candidate, unless that is done."""

    request: Request
    conditions: Conditions
    journal: Journal
    runner: Runner
    stop: StopRequest

    def measure(self, candidate: Candidate) -> Trial:
        """The candidate's trial, in the journal before this returns."""
        job = self._job(candidate)
        done = self.journal.done(job.candidate, self.conditions)
        if done is not None and done.outcome != "skipped":
            return done
        self.stop.raise_if_asked("The trials so far are kept; the same command goes on.")
        for _ in range(CONTAMINATED_TRIES):
            trial = run_trial(job, self.conditions, runner=self.runner)
            if trial.outcome != "contaminated":
                break
        self.journal.add([trial])
        return trial

    def _job(self, candidate: Candidate) -> Job:
        request = self.request
        pins = pins_for(
            candidate.precision,
            request.target.compute_capability,
            deterministic=candidate.deterministic,
            allocator=request.allocator,
        )
        if request.device == "cuda":
            return Job(
                candidate=candidate,
                pins=pins,
                device="cuda",
                cap_bytes=request.budget.limit_bytes,
                cap=request.cap,
            )
        there = replace(candidate, implementation="foreach")
        return Job(
            candidate=there, pins=pins, device="cpu", cap_bytes=None, warmup_steps=1, timed_steps=3
        )


def _search(bench: _Bench, cells: Sequence[Trial], effective_batch: int) -> Searched:
    budget, stage = bench.request.budget, cells[0].candidate.stage
    if bench.request.device == "cuda":
        most = max(1, len(cells) // SHARE_OF_GRID)
        with Progress(f"measuring {stage}, at most", most, "trials") as progress:

            def measure(cell: Trial) -> Trial:
                trial = bench.measure(cell.candidate)
                progress.advance()
                return trial

            return search(cells, budget, effective_batch, measure)
    chosen, skipped = worth_timing(cells, budget, {stage: effective_batch})
    measured = []
    with Progress(f"timing {stage}", len(chosen), "trials") as progress:
        for cell in chosen:
            measured.append(bench.measure(cell.candidate))
            progress.advance()
    return Searched(tuple(measured), tuple(skipped))


def _skipped(bench: _Bench, searched: Searched) -> list[Trial]:
    """What was not tried, as trials with the reason, in the journal once."""
    trials = [
        replace(cell, conditions=bench.conditions, outcome="skipped", reading=None, error=why)
        for cell, why in searched.skipped
    ]
    journal = bench.journal
    journal.add(t for t in trials if journal.done(t.candidate, bench.conditions) is None)
    return trials


def worth_timing(
    predicted: Sequence[Trial], limit: Budget, effective: dict[StageName, int]
) -> tuple[list[Trial], list[tuple[Trial, str]]]:
    """On a CPU: the trials to time, largest batch first, and the reason against each other."""
    chosen: list[Trial] = []
    skipped: list[tuple[Trial, str]] = []
    for trial in sorted(predicted, key=lambda trial: -trial.candidate.micro_batch):
        judged = verdict(trial, limit, effective[trial.candidate.stage])
        taken = sum(same_family(trial.candidate, other.candidate) for other in chosen)
        if trial.candidate.precision != "fp32":
            skipped.append((trial, "not timed on a CPU"))
        elif not judged.eligible:
            skipped.append((trial, f"predicted: {judged.words}"))
        elif taken >= TIMED_PER_FAMILY:
            skipped.append((trial, "larger micro-batches of it are timed"))
        else:
            chosen.append(trial)
    return chosen, skipped
