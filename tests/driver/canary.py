"""The rules of the torch that is installed here, or of the last one before it, held against it.

`python -m tests.driver.canary` prints Markdown: what PyTorch's own code asks for under the stub
driver and the prediction does not, by op, and where the allocator departs from its model. It ends
with 1 where something moved that the release's row of `PAGE` does not name.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import torch

from bench.evidence.allocator_check import check_allocator
from bench.evidence.comparison import ComparedRecording, compare_recording
from bench.simulate.kernels.library import CUBLASLT_WORKSPACE
from distill.base.units import MIB
from distill.report.tables import Row, as_markdown
from distill.spec.candidate import Allocator
from tests.conftest import ROOT
from tests.driver import op_steps, user_steps
from tests.driver.build import build, missing_tools
from tests.driver.judged_steps import CONVOLUTIONAL, OPS, TEN, JudgedStep, StepRequest, judged_steps
from tests.driver.recordings import CANDIDATES, RESNET, TARGET, Request, recorded, run_of

PAGE = ROOT / "docs/prediction.md"
HEADING = "## Other releases of torch"

CUBLAS_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024
"""Where cuDNN's stand-in is the first to take cuBLAS's workspace, the product that would have been
takes none."""

WORKSPACES = {CUBLAS_BYTES: "cublas workspace", CUBLASLT_WORKSPACE: "cublasLt workspace"}
"""A request of so many bytes more is named for its row of the kernel table, whatever the op."""

ALLOCATORS: tuple[Allocator, ...] = ("expandable", "native")
RANDOM: list[Request] = [("random", kind, seed) for kind in ALLOCATORS for seed in ("1", "2")]


@dataclass(frozen=True)
class Moved:
    """One thing that this release does otherwise, and in which configuration."""

    name: str
    what: str
    where: str


def moved_in(one: ComparedRecording, where: str) -> list[Moved]:
    """What moved in a run of the chain, but for convolutions, which are cuDNN's on a card."""
    found = [
        Moved(f"{one.recording.pins.allocator} segments", mismatch.what.split(",")[0], where)
        for mismatch in (one.mismatches or ())[:1]
    ]
    for row in one.missing or ():
        op, size = row["op"].removeprefix("after "), int(row["bytes"].replace(",", ""))
        stand_in = "convolution" in op or (row["phase"] == "evaluate" and "batch_norm" in op)
        first = (row["request"], size, row["times"]) == ("not recorded", CUBLAS_BYTES, "1")
        if not stand_in and not first:
            found.append(_request(row["request"], op, size, where))
    return found


def moved_in_step(one: JudgedStep, where: str) -> list[Moved]:
    """What moved in a step that is not the chain's, but for convolutions."""
    sizes = [size for size, _ in one.requests]
    matcher = SequenceMatcher(None, sizes, one.recorded_requests, autojunk=False)
    found = []
    for kind, begin, end, first, last in matcher.get_opcodes():
        near = [op for _, op in one.requests[max(0, begin - 1) : end + 1]]
        if kind == "equal" or any("convolution" in op for op in near):
            continue
        found += [
            _request("not recorded", op, size, where)
            for size, op in one.requests[begin:end]
            if where not in CONVOLUTIONAL or size != CUBLAS_BYTES
        ]
        found += [
            _request("not predicted", near[0] if near else "the start", size, where)
            for size in one.recorded_requests[first:last]
        ]
    return found


def _request(side: str, op: str, size_bytes: int, where: str) -> Moved:
    return Moved(WORKSPACES.get(size_bytes, op), f"{side}: {size_bytes:,} B", where)


def moved_rows(found: Iterable[Moved]) -> list[Row]:
    """One row a name: what moved there, and in how many configurations."""
    by_name: dict[str, list[Moved]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    return [
        {
            "moved": f"`{name}`",
            "how": "; ".join(_few(sorted({one.what for one in ones}))),
            "configurations": str(len({one.where for one in ones})),
        }
        for name, ones in sorted(by_name.items())
    ]


def _few(words: list[str]) -> list[str]:
    return words if len(words) <= 4 else [*words[:4], f"{len(words) - 4} more"]


def named_for(release: str, page: str) -> set[str]:
    """What the row of a release names in backticks: `2.15.0` is told in the row of `2.15`."""
    minor = ".".join(release.split(".")[:2])
    rows = page.partition(HEADING)[2].partition("\n## ")[0].splitlines()
    mine = [row for row in rows if re.match(rf"\|\s*{re.escape(minor)}(\.\d+)*\s*\|", row)]
    return {name for row in mine for name in re.findall(r"`([^`]+)`", row)}


def peak_lines(errors: Sequence[tuple[int, int, int]]) -> str:
    """The extremes of (predicted − taken) allocated and reserved bytes, and what was above most."""
    allocated, reserved = ([one[index] for one in errors] for index in (0, 1))
    above = [-one[2] for one in errors if one[2] < 0]
    words = f"by up to {max(above) / MIB:.0f} MiB" if above else "none"
    return (
        f"Predicted − taken over {len(errors)} runs: allocated {_span(allocated)}, reserved "
        f"{_span(reserved)}. Above the most that is foreseen: {len(above)} ({words})."
    )


def _span(values: Sequence[int]) -> str:
    return f"{min(values) / MIB:+.1f} to {max(values) / MIB:+.1f} MiB"


def runs_moved(library: Path, folder: Path) -> tuple[list[Moved], list[tuple[int, int, int]]]:
    """Random histories and the chain's runs: what moved, and errors with expandable segments."""
    pairs = [*CANDIDATES, RESNET]
    asked = [run_of(folder, *pair) for pair in pairs]
    found = recorded(library, folder, [*RANDOM, *asked])
    moved = [
        Moved(f"{kind} segments", mismatch.what.split(",")[0], f"random requests {seed}")
        for _, kind, seed in RANDOM
        for mismatch in check_allocator(found["random", kind, seed], TARGET.total_bytes)[:1]
    ]
    errors = []
    for (candidate, allocator), request in zip(pairs, asked, strict=True):
        one = compare_recording(found[request], TARGET)
        where = f"{candidate.stage} {candidate.student.title} {candidate.label} {allocator}"
        moved += moved_in(one, where)
        if allocator == "expandable":
            errors.append((one.errors[1], one.errors[2], one.reserved_max - one.recorded[2]))
    return moved, errors


def steps_moved(library: Path, folder: Path) -> tuple[list[Moved], list[tuple[int, int, int]]]:
    """The ten steps of others, and the groups of ops: the same."""
    wanted: list[StepRequest] = [
        *((TEN, name, "expandable") for name in user_steps.STEPS),
        *((OPS, name, "expandable") for name in op_steps.STEPS),
    ]
    moved, errors = [], []
    for (_, name, _), one in judged_steps(library, folder, wanted).items():
        moved += moved_in_step(one, name)
        if name not in CONVOLUTIONAL:
            most = one.prediction.reserved_max - one.recorded[2]
            errors.append((one.errors[1], one.errors[2], most))
    return moved, errors


def main() -> None:
    """Build, record, print; 1 where something moved that no row names."""
    if missing := missing_tools():
        sys.exit(f"building the driver takes {' and '.join(missing)}")
    release = torch.__version__.split("+")[0]
    print(f"## torch {release}, CUDA {torch.version.cuda}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        moved, of_runs = runs_moved(library, folder)
        print(f"The chain. {peak_lines(of_runs)}\n", flush=True)
        of_steps, errors = steps_moved(library, folder)
        print(f"Steps of others. {peak_lines(errors)}\n")
    rows = moved_rows([*moved, *of_steps])
    print(as_markdown(rows) if rows else "Nothing moved: every request and segment is equal.")
    known = named_for(release, PAGE.read_text(encoding="utf-8"))
    new = [row["moved"] for row in rows if row["moved"].strip("`") not in known]
    if new:
        print(f"\nNot named in {PAGE.name}, {HEADING.strip('# ')}: {', '.join(new)}")
        sys.exit(1)
    if rows:
        print(f"\nAll of it is named in {PAGE.name}, {HEADING.strip('# ')}.")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
