"""Everything that needs a GPU, in one bounded run: most valuable first, each part saved as done.

Leaves at most seven files of at most 16 MiB. A part that fails or runs out of its time says so in
`index.json` and the next one goes on. The process itself never touches CUDA; every recording and
every trial is a fresh child. A dry run walks the same way on the CPU with tiny models.
The tables need no GPU: `bench evidence --tables` makes them anywhere.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from bench.card.detect import wanted_card
from bench.evidence.command import EvidenceOptions
from bench.evidence.plan import Plan, plan, small_plan
from bench.evidence.record import record_all
from bench.evidence.session import EvidenceRequest, Session
from bench.evidence.summary import evidence_tables
from bench.evidence.throughput import time_contestants
from bench.evidence.time_plan import PartTime, part_times, plan_text
from bench.evidence.timing_fit import calibrated_target, timed_machines
from bench.evidence.verification import verify_profile
from bench.trials.digests import prediction_digest
from distill.base.errors import DistillError, Interrupted
from distill.base.files import ensure_folder, write_json, write_text
from distill.base.signals import StopRequest, stop_on_signals
from distill.base.units import duration
from distill.device.nvml import read_holders, read_state
from distill.device.visible_devices import hide_devices
from distill.spec.profile import read_profile
from distill.spec.recipe import load_recipe


def show_tables(out: Path) -> None:
    """Print the tables of what is in a folder, and keep them there. Measures nothing.

    Where updates were timed on a card, its target with the constants that they tell is kept too.
    """
    hide_devices()
    machines = timed_machines(out)
    text = evidence_tables(out, machines)
    if out.is_dir():
        write_text(out / "tables.md", text)
    click.echo(text, nl=False)
    target = calibrated_target(machines)
    if target is not None:
        write_json(out / "target.json", target.model_dump(mode="json"))
        click.echo(f"\nFor the times of later predictions: --target {out}/target.json")


def gather(options: EvidenceOptions, began: float) -> bool:
    """Do all parts; whether each was done. The minutes count from `began`, a monotonic time."""
    if options.dry_run:
        hide_devices()
    request = _request(options, began)
    with stop_on_signals(f"What was done is in {options.out}.") as stop:
        parts = run_evidence(request, stop)
    click.echo(f"Next, on any machine: bench evidence --tables --out {options.out}")
    return all(part["done"] for part in parts)


def _request(options: EvidenceOptions, began: float) -> EvidenceRequest:
    """The command line as a request. Raises `NoDeviceError` without a card, but in a dry run."""
    command = f"bench evidence --minutes {options.minutes:g}"
    if options.dry_run:
        card, command = None, f"{command} --dry-run"
        chosen, stages = small_plan(load_recipe("demo")), 1
        _tell_whole_plan(options)
    else:
        card = wanted_card("cuda")
        chosen, stages = _whole_plan(options)
    ensure_folder(options.out)
    return EvidenceRequest(
        out=options.out,
        minutes=options.minutes,
        plan=chosen,
        stages=stages,
        card=card,
        profile=options.profile_path,
        command=command,
        began=began,
    )


def _whole_plan(options: EvidenceOptions) -> tuple[Plan, int]:
    """The plan for a card, and how many stages of the profile are verified.

    Raises `UserError` for a profile of another recipe than the one that is named.
    """
    profile = read_profile(options.profile_path)
    recipe = load_recipe(options.recipe_name or profile.recipe_name())
    for choice in profile.choices:
        profile.choice_for(recipe, choice.stage)
    return plan(recipe, profile.choices), len(profile.choices)


def _tell_whole_plan(options: EvidenceOptions) -> None:
    """Say what the same call would take on a card; that needs the profile."""
    if options.profile_path.exists():
        chosen, stages = _whole_plan(options)
        times = part_times(chosen, stages, options.minutes, side_by_side=True)
        print(f"  On a card: {plan_text(times, options.minutes)}", file=sys.stderr, flush=True)


def run_evidence(request: EvidenceRequest, stop: StopRequest) -> list[dict[str, Any]]:
    """Do all parts; gives what became of each, as `index.json` has it."""
    plan = request.plan
    works: dict[str, Callable[[Session], str]] = {
        "host": _host,
        "golden": lambda s: record_all(s, plan.golden, "golden.json.gz", history=True),
        "verification": verify_profile,
        "cells": lambda s: record_all(s, plan.cells, "cells.json.gz", history=False),
        "throughput": time_contestants,
    }
    parts: list[dict[str, Any]] = []
    defects = []
    large = Session(request, stop).is_large
    for time_of in part_times(plan, request.stages, request.minutes, side_by_side=large):
        name = time_of.part
        session = Session(request, stop, until_seconds=time_of.until_seconds)
        with stop.finishing(partial(_what_is_begun, session, name)):
            _write_index(request, [*parts, _begun(session, time_of)])
            part, defect = _do(session, time_of, works[name])
            parts.append(part)
            _write_index(request, parts)
        if defect is not None:
            defects.append(defect)
    if defects:
        raise ExceptionGroup("parts of the evidence met a defect; the others are done", defects)
    return parts


def _what_is_begun(session: Session, name: str) -> str:
    return f"what is begun of {name}, at most {duration(max(1.0, session.left()))}"


def _begun(session: Session, planned: PartTime) -> dict[str, Any]:
    """A part as the index has it while it runs: what is left of it where the process is ended."""
    return {
        "part": planned.part,
        "done": False,
        "seconds": None,
        "words": "begun, and not ended",
        "may_take_seconds": round(max(0.0, session.left()), 1),
        "expected_seconds": planned.expected_seconds if session.request.card else None,
        "count": None,
        "of": planned.count,
    }


def _do(
    session: Session, planned: PartTime, work: Callable[[Session], str]
) -> tuple[dict[str, Any], Exception | None]:
    """One part, and the defect that it met, if any: the other parts go on all the same."""
    began, defect, name = time.monotonic(), None, planned.part
    part = _begun(session, planned)
    allowed = f"{planned.count}, up to {part['may_take_seconds']:.0f} s"
    print(f"  {name}: {allowed} …", file=sys.stderr, flush=True)
    try:
        words, done = work(session), True
    except Interrupted:
        raise
    except DistillError as error:
        words, done = str(error), False
    except Exception as error:  # noqa: BLE001 - raised at the end
        words, done, defect = f"{type(error).__name__}: {error}", False, error
    seconds = round(time.monotonic() - began, 1)
    print(f"  {name}: {words} ({seconds:g} s)", file=sys.stderr, flush=True)
    ended = {"done": done, "seconds": seconds, "words": words, "count": session.count.done}
    return part | ended, defect


def _write_index(request: EvidenceRequest, parts: Sequence[dict[str, Any]]) -> None:
    index = {
        "schema_version": 1,
        "command": request.command,
        "dry_run": request.card is None,
        "code": prediction_digest(),
        "parts": parts,
    }
    write_json(request.out / "index.json", index)


def _host(session: Session) -> str:
    """Card, driver, versions and the state that the card is in; never a host or user name."""
    card = session.request.card
    uuid = None if card is None else card.uuid
    holders = read_holders(uuid)
    document = {
        "schema_version": 1,
        "card": None if card is None else asdict(replace(card, uuid=None)),
        "state": asdict(read_state(uuid)),
        "holders": None if holders.processes is None else len(holders.processes),
        "holders_reason": holders.reason,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "cores": os.cpu_count(),
    }
    write_json(session.request.out / "host.json", document)
    session.count.done = 1
    return "no card" if card is None else f"{card.name}, driver {card.driver}"
