"""Recordings of PyTorch's own code under the driver that computes nothing, judged.

`python -m tests.driver.recordings` prints the table of docs/prediction.md.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.card.targets import target_named
from bench.evidence.comparison import ComparedRecording, compare_recording
from bench.evidence.recording import Recording
from bench.measure.jobs import Job, job_document
from distill.report.tables import Row, as_markdown
from distill.spec.candidate import Allocator, Candidate, Checkpointing, Precision, StageName
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from tests.conftest import ROOT
from tests.driver.build import build, environment

TARGET = target_named("rtx4050")


def candidate(
    stage: StageName, batch: int, precision: Precision, checkpointing: Checkpointing
) -> Candidate:
    """A stage of the real chain, two micro-batches an update."""
    return replace(
        load_recipe("cifar10").candidate(stage, micro_batch=batch),
        precision=precision,
        checkpointing=checkpointing,
        accumulation=2,
        images_per_epoch=None,
    )


CANDIDATES: tuple[tuple[Candidate, Allocator], ...] = (
    (candidate("teacher", 4, "fp32", 0), "expandable"),
    (candidate("teacher", 16, "fp16", 1), "expandable"),
    (candidate("assistant", 8, "bf16", 0), "native"),
    (candidate("assistant", 128, "bf16", 0), "expandable"),
    (candidate("student", 8, "fp16", 1), "expandable"),
    (candidate("student", 16, "fp32", 2), "native"),
)


def recorded(library: Path, folder: Path, what: str, *arguments: str) -> Recording:
    """What the child leaves. Raises `RuntimeError` with its last words when it leaves nothing."""
    out = folder / "recording.json"
    child = subprocess.run(
        [sys.executable, "-m", "tests.driver.child", what, str(out), *arguments],
        cwd=ROOT,
        env=environment(library, TARGET.total_bytes),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if child.returncode:
        raise RuntimeError(child.stderr[-2000:])
    return Recording.model_validate_json(out.read_text())


def judged(
    library: Path, folder: Path, wanted: Candidate, allocator: Allocator
) -> ComparedRecording:
    """A candidate's first updates against their prediction."""
    capability = TARGET.compute_capability
    pins = pins_for(wanted.precision, capability, deterministic=False, allocator=allocator)
    job = Job(candidate=wanted, pins=pins, device="cuda", cap_bytes=None)
    path = folder / "job.json"
    path.write_text(json.dumps(job_document(job)))
    return compare_recording(recorded(library, folder, "run", str(path)), TARGET)


def _row(one: ComparedRecording) -> Row:
    wanted = one.recording.candidate
    blocks = f", every {wanted.checkpointing}. block checkpointed" if wanted.checkpointing else ""
    return {
        "configuration": f"{wanted.stage}, {wanted.precision}{blocks}",
        "batch": f"{wanted.micro_batch} × {wanted.accumulation}",
        "allocator": one.recording.pins.allocator,
        "allocated B": f"{one.recorded[1]:,}",
        "off by": f"{one.errors[1]:+,}",
        "reserved B": f"{one.recorded[2]:,}",
        "off by ": f"{one.errors[2]:+,}",
        "most foreseen B": f"{one.reserved_max:,}",
        "segment events": "differ" if one.mismatches else "equal",
    }


def main() -> None:
    """Build, record, compare_recording, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        print(as_markdown([_row(judged(library, folder, *pair)) for pair in CANDIDATES]))


if __name__ == "__main__":
    main()
