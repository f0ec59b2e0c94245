"""Measuring what predictions recommend, each trial in a fresh child, each in the journal at once.

On CUDA `search` decides what is worth a trial, and `turns` which are timed again; on a CPU, where
only times are to be had and nothing is chosen by them, the largest batches of fp32 are timed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from bench.measure.forkserver import ForkServer
from bench.measure.isolate import TIME_LIMIT_SECONDS, Runner, run_trial
from bench.measure.jobs import TrialJob
from bench.measure.warm_up import WarmUp
from bench.probe.calibrate import small_update
from bench.probe.choose import verdict
from bench.probe.probe_plan import ProbePlan
from bench.probe.search import SHARE_OF_GRID, Searched, search
from bench.probe.turns import MOST, take_turns
from bench.trials.journal import Journal
from bench.trials.trial import Measured, Trial, by_stage
from distill.base.progress import Progress
from distill.base.signals import StopRequest
from distill.base.units import duration
from distill.spec.candidate import Candidate, StageName
from distill.spec.profile import Budget
from distill.spec.step_times import CachingPass

TIMED_PER_FAMILY = 2
"""How many micro-batches of a family are timed on a CPU, from the largest that may be chosen."""

CONTAMINATED_TRIES = 3
"""How often a trial that another process disturbed is made, all told."""

KEPT = "The trials so far are kept; the same command goes on."

Servers = Callable[[ProbePlan], AbstractContextManager[Runner]]


def fork_server(plan: ProbePlan) -> AbstractContextManager[Runner]:
    """A runner of children: forks of one process that has torch loaded."""
    return ForkServer(allocator=plan.allocator)


def measure_grid(
    plan: ProbePlan,
    journal: Journal,
    predicted: Sequence[Trial],
    stop: StopRequest,
    servers: Servers = fork_server,
) -> list[Trial]:
    """Run what predictions recommend; say of the rest why it was not tried."""
    found: list[Trial] = []
    with servers(plan) as runner:
        measurer = _Measurer(plan, journal, runner, stop)
        for stage, cells in by_stage(predicted).items():
            for mode in dict.fromkeys(cell.candidate.teacher_logits for cell in cells):
                mine = [cell for cell in cells if cell.candidate.teacher_logits == mode]
                searched = _search(measurer, mine, plan.effective_batches[stage])
                found += [*searched.measured, *_skipped(measurer, searched)]
        if plan.device == "cuda":  # of the grid's own trials few are bound by launches
            measurer.measure(small_update(plan.target.compute_capability))
    return found


@dataclass
class _Measurer:
    """One device and its journal: measures a candidate, unless that is done."""

    plan: ProbePlan
    journal: Journal
    runner: Runner
    stop: StopRequest

    def measure(self, candidate: Candidate, turn: int = 0) -> Trial:
        """The candidate's trial of that turn, in the journal before this returns.

        Where it reads cached logits, the pass that makes them is a trial of its own.
        """
        trial = self._measured(candidate, turn)
        if candidate.teacher_logits != "cached" or not isinstance(trial.reading, Measured):
            return trial
        caching = self._measured(candidate.caching(), 0)
        if not isinstance(caching.reading, Measured):
            return replace(trial, outcome=caching.outcome, error=f"caching: {caching.error}")
        made = CachingPass(
            peak_bytes=caching.reading.reserved_bytes or 0,
            images_per_second=caching.images_per_second,
        )
        return replace(trial, reading=replace(trial.reading, caching=made))

    def _measured(self, candidate: Candidate, turn: int) -> Trial:
        job = replace(self._job(candidate), count_launches=turn == 1)
        done = self.journal.done(job.candidate, self.plan.measured_under, turn)
        if done is not None and done.outcome != "skipped":
            return done
        with self.stop.finishing(_this_trial):
            for _ in range(CONTAMINATED_TRIES):
                trial = run_trial(job, self.plan.measured_under, runner=self.runner)
                trial = replace(trial, turn=turn)
                if trial.outcome != "contaminated" or self.stop.number is not None:
                    break
            self.journal.add([trial])
        return trial

    def _job(self, candidate: Candidate) -> TrialJob:
        plan = self.plan
        pins = plan.pins_of(candidate)
        if plan.device == "cuda":
            return TrialJob(
                candidate=candidate,
                pins=pins,
                device="cuda",
                cap_bytes=plan.budget.limit_bytes,
                cap=plan.cap,
            )
        there = replace(candidate, implementation="foreach")
        return TrialJob(
            candidate=there,
            pins=pins,
            device="cpu",
            cap_bytes=None,
            warm_up=WarmUp(at_least=1),
            timed_steps=3,
        )


def _this_trial() -> str:
    return f"the trial under way, at most {duration(TIME_LIMIT_SECONDS)}"


def _search(measurer: _Measurer, cells: Sequence[Trial], effective_batch: int) -> Searched:
    budget, stage = measurer.plan.budget, cells[0].candidate.stage
    if measurer.plan.device == "cuda":
        most = max(1, len(cells) // SHARE_OF_GRID)
        with Progress(f"measuring {stage}, at most", most, "trials") as progress:

            def measure(cell: Trial) -> Trial:
                trial = measurer.measure(cell.candidate)
                progress.advance()
                return trial

            searched = search(cells, budget, effective_batch, measure)
        return _in_turns(measurer, searched, effective_batch) if searched.measured else searched
    chosen, skipped = worth_timing(cells, budget, {stage: effective_batch})
    measured = []
    with Progress(f"timing {stage}", len(chosen), "trials") as progress:
        for cell in chosen:
            measured.append(measurer.measure(cell.candidate))
            progress.advance()
    return Searched(tuple(measured), tuple(skipped))


def _in_turns(measurer: _Measurer, searched: Searched, effective_batch: int) -> Searched:
    """What was searched of a stage, its fastest timed again in turn."""
    stage = searched.measured[0].candidate.stage
    with Progress(f"timing the fastest of {stage} in turn, at most", MOST, "trials") as progress:

        def again(trial: Trial, turn: int) -> Trial:
            further = measurer.measure(trial.candidate, turn)
            progress.advance()
            return further

        found = take_turns(searched.measured, measurer.plan.budget, effective_batch, again)
    return replace(searched, measured=tuple(found))


def _skipped(measurer: _Measurer, searched: Searched) -> list[Trial]:
    """Cells that were not tried, as trials with the reason, in the journal once."""
    trials = [
        replace(
            cell,
            conditions=measurer.plan.measured_under,
            outcome="skipped",
            reading=None,
            error=why,
        )
        for cell, why in searched.skipped
    ]
    journal = measurer.journal
    journal.add(
        t for t in trials if journal.done(t.candidate, measurer.plan.measured_under) is None
    )
    return trials


def worth_timing(
    predicted: Sequence[Trial], limit: Budget, effective: Mapping[StageName, int]
) -> tuple[list[Trial], list[tuple[Trial, str]]]:
    """On a CPU: the trials to time, largest batch first, and the reason against each other."""
    chosen: list[Trial] = []
    skipped: list[tuple[Trial, str]] = []
    for trial in sorted(predicted, key=lambda trial: -trial.candidate.micro_batch):
        judged = verdict(trial, limit, effective[trial.candidate.stage])
        taken = sum(trial.candidate.same_family(other.candidate) for other in chosen)
        if trial.candidate.precision != "fp32":
            skipped.append((trial, "not timed on a CPU"))
        elif not judged.eligible:
            skipped.append((trial, f"predicted: {judged.words}"))
        elif taken >= TIMED_PER_FAMILY:
            skipped.append((trial, "larger micro-batches of it are timed"))
        else:
            chosen.append(trial)
    return chosen, skipped
