"""Everything that needs a GPU, in one bounded run: most valuable first, each part saved as done.

Leaves at most seven files of at most 16 MiB. A part that fails or runs out of its time says so in
`index.json` and the next one goes on. The process itself never touches CUDA; every recording and
every trial is a fresh child. A dry run walks the same way on the CPU with tiny models.
The tables need no GPU: `bench evidence --tables` makes them anywhere.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from bench.evidence.parts import record_all, time_contestants, verify_profile
from bench.evidence.session import Request, Session
from bench.trials import prediction_digest
from distill.base.errors import DistillError
from distill.base.files import write_json
from distill.base.signals import StopRequest
from distill.device.nvml import read_holders, read_state

SHARES = {"host": 0.05, "golden": 0.18, "cells": 0.34, "verification": 0.85, "throughput": 1.0}
"""Until which share of the time each part may take; what one leaves, the next ones have."""


def run_evidence(request: Request, stop: StopRequest) -> list[dict[str, Any]]:
    """Do all parts; gives what became of each, as `index.json` has it."""
    session = Session(request, stop)
    works: dict[str, Callable[[Session], str]] = {
        "host": _host,
        "golden": lambda s: record_all(s, s.request.plan.golden, "golden.json.gz", history=True),
        "cells": lambda s: record_all(s, s.request.plan.cells, "cells.json.gz", history=False),
        "verification": verify_profile,
        "throughput": time_contestants,
    }
    defects = []
    for name, work in works.items():
        session.until = SHARES[name]
        defect = _do(session, name, work)
        if defect is not None:
            defects.append(defect)
        stop.raise_if_asked(f"What was done is in {request.out}.")
    if defects:
        raise ExceptionGroup("parts of the evidence met a defect; the others are done", defects)
    return session.parts


def _do(session: Session, name: str, work: Callable[[Session], str]) -> Exception | None:
    """One part. What should not have happened is given back, for the other parts go on."""
    began, defect = time.monotonic(), None
    print(f"  {name}: up to {max(0, session.left()):.0f} s …", file=sys.stderr, flush=True)
    try:
        words, done = work(session), True
    except DistillError as error:
        words, done = str(error), False
    except Exception as error:  # noqa: BLE001 - raised at the end
        words, done, defect = f"{type(error).__name__}: {error}", False, error
    seconds = round(time.monotonic() - began, 1)
    print(f"  {name}: {words} ({seconds:g} s)", file=sys.stderr, flush=True)
    session.parts.append({"part": name, "done": done, "seconds": seconds, "words": words})
    index = {
        "schema_version": 1,
        "command": session.request.command,
        "dry_run": session.request.card is None,
        "code": prediction_digest(),
        "parts": session.parts,
    }
    write_json(session.request.out / "index.json", index)
    return defect


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
    return "no card" if card is None else f"{card.name}, driver {card.driver}"
