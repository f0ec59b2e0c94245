"""Traced programs on disk, so that nothing is traced twice. Always safe to delete.

Under `$XDG_CACHE_HOME`, else `~/.cache`. Keyed by everything that a trace depends on: the
candidate, the card's part in kernels, the pins, torch, timm and this project's source. A file
that can't be read is traced again; a cache that can't be written is not used.
"""

import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.simulate.program.program import Costs, Formula, Program, Span
from bench.trials import prediction_digest
from distill.base.errors import UserError
from distill.base.files import write_whole
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins
from distill.spec.profile import Target

FOLDER = "six-gig-distill/traces"


class TraceCache:
    """Programs by what they depend on. `folder` of `None` keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._source = f"{prediction_digest()} {version('torch')} {version('timm')}"

    def path(self, candidate: Candidate, target: Target, pins: Pins) -> Path | None:
        """The file of a candidate's program, there or not."""
        if self.folder is None:
            return None
        key = {
            "candidate": asdict(candidate),
            "compute_capability": target.compute_capability,
            "multiprocessors": target.multiprocessors,
            "threads_per_multiprocessor": target.threads_per_multiprocessor,
            "pins": pins.model_dump(mode="json"),
            "source": self._source,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.npz"

    def load(self, path: Path | None) -> Program | None:
        """The program kept at `path`, if it can be read."""
        if path is None or not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return _unpacked(arrays)
        except (OSError, ValueError, KeyError, BadZipFile, EOFError):
            return None

    def save(self, path: Path | None, program: Program) -> None:
        """Keep a program, if the place can be written."""
        if path is None:
            return
        arrays = _packed(program)
        try:
            write_whole(path, lambda stream: np.savez(stream, allow_pickle=False, **arrays))
        except UserError:
            self.folder = None


def default_folder() -> Path:
    """The folder of traces, for a user of this machine."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / FOLDER


def _packed(program: Program) -> dict[str, NDArray[Any]]:
    ops, op_of = np.unique(program.op.astype(str), return_inverse=True)
    modules, module_of = np.unique(program.module.astype(str), return_inverse=True)
    details = {
        "spans": [[span.phase, span.part, span.slot] for span in program.spans],
        "formulas": [
            [index, formula.row, formula.dims, formula.slopes]
            for index, formula in program.formulas.items()
        ],
    }
    costs = program.costs
    return {
        "details": np.array(json.dumps(details)),
        "births": np.stack(
            [program.base, program.slope, program.death, program.span_of, program.owner_of]
        ),
        "ops": ops,
        "op_of": op_of,
        "modules": modules,
        "module_of": module_of,
        "half": costs.half,
        "costs": np.stack(
            [costs.span_of, costs.flops, costs.flops_slope, costs.traffic, costs.traffic_slope]
        ),
    }


def _unpacked(arrays: Any) -> Program:
    details = json.loads(str(arrays["details"]))
    base, slope, death, span_of, owner_of = arrays["births"]
    cost_spans, flops, flops_slope, traffic, traffic_slope = arrays["costs"]
    return Program(
        spans=tuple(Span(phase, part, slot) for phase, part, slot in details["spans"]),
        base=base,
        slope=slope,
        death=death,
        span_of=span_of,
        owner_of=owner_of,
        op=arrays["ops"][arrays["op_of"]].astype(object),
        module=arrays["modules"][arrays["module_of"]].astype(object),
        formulas={
            index: Formula(row, tuple(dims), tuple(slopes))
            for index, row, dims, slopes in details["formulas"]
        },
        costs=Costs(
            span_of=cost_spans,
            half=arrays["half"],
            flops=flops,
            flops_slope=flops_slope,
            traffic=traffic,
            traffic_slope=traffic_slope,
        ),
    )
