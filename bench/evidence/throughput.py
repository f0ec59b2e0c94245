"""The throughput of `bench evidence`: the profile's configuration against its rivals, timed."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from bench.evidence.plan import OWN, Contestant
from bench.evidence.session import ALLOCATOR, CHILD_SECONDS, Session
from bench.measure.forkserver import ForkServer
from bench.measure.isolate import Runner, run_trial, spawned
from bench.measure.jobs import TrialJob
from bench.measure.warm_up import WarmUp
from bench.trials.digests import measurement_digest
from bench.trials.trial import Conditions, Trial
from distill.base.errors import RunFailed
from distill.base.files import write_json

PLAIN_LOOP = "bench.evidence.plain_loop"


def time_contestants(session: Session) -> str:
    """Every contestant once, then, as time allows, again: what the machine does hits them all."""
    plan, found = session.request.plan, []
    card = session.request.card
    conditions = Conditions(
        card="cpu" if card is None else card.name,
        driver=None if card is None else card.driver,
        cap_bytes=session.cap_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=measurement_digest(PLAIN_LOOP),
    )
    wanted = plan.timings()
    start_seconds = max(1.0, session.left())
    with ForkServer(allocator=ALLOCATOR, start_seconds=start_seconds) as server:
        for number, contestant in wanted:
            if session.left() < 15 or session.stop.number is not None:
                break
            runner = spawned(PLAIN_LOOP, pinned=False) if contestant.by == "plain loop" else server
            last = number == contestant.rounds - 1
            trial = _timed(session, contestant, conditions, runner, count_launches=last)
            found.append(_timed_document(number, contestant, trial))
            document = {"schema_version": 1, "trials": found}
            write_json(session.request.out / "throughput.json", document)
            session.count.done = len(found)
    bad = [f"{one['name']}: {one['outcome']}" for one in found if one["outcome"] != "ok"]
    words = "; ".join([f"{len(found) - len(bad)} of {len(wanted)} timed", *bad])
    if len(found) < len(plan.contestants) or any(_is_failure(one) for one in found):
        raise RunFailed(f"{words}.")
    return words


def _is_failure(timed: dict[str, Any]) -> bool:
    """Not that memory ends for another configuration than the profile's: that is a finding."""
    return timed["outcome"] not in (("ok",) if timed["name"] == OWN else ("ok", "oom", "thrash"))


def _timed(
    session: Session,
    contestant: Contestant,
    conditions: Conditions,
    runner: Runner,
    *,
    count_launches: bool,
) -> Trial:
    job = TrialJob(
        candidate=contestant.candidate,
        pins=session.pins(contestant.candidate, ALLOCATOR),
        device=session.device,
        cap_bytes=session.cap_bytes,
        cap="native",
        warm_up=WarmUp() if session.device == "cuda" else WarmUp(at_least=1),
        timed_steps=15 if session.device == "cuda" else 3,
        count_launches=count_launches,
    )
    limit = min(CHILD_SECONDS, session.left())
    return run_trial(job, conditions, runner=runner, time_limit_seconds=limit)


def _timed_document(number: int, contestant: Contestant, trial: Trial) -> dict[str, Any]:
    return {
        "round": number,
        "name": contestant.name,
        "by": contestant.by,
        "images_per_second": trial.images_per_second,
        **asdict(trial),
        "pins": trial.pins.model_dump(mode="json") if contestant.by == "step" else None,
    }
