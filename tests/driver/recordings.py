"""Recordings of PyTorch's own code under the stub driver, judged.

`python -m tests.driver.recordings` prints the table of docs/prediction.md.
"""

import json
import tempfile
from collections.abc import Sequence
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
from tests.driver.build import build
from tests.driver.children import answers

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


def shallow(stage: StageName, batch: int, precision: Precision, accumulation: int) -> Candidate:
    """A stage with `cheap` at its own width, of three blocks: a fourth would be as the third."""
    whole = candidate(stage, batch, precision, "cheap")
    return replace(
        whole,
        student=replace(whole.student, depth=3),
        teacher=None if whole.teacher is None else replace(whole.teacher, depth=1),
        accumulation=accumulation,
    )


def resnet(batch: int, precision: Precision) -> Candidate:
    """ResNet-18 with `cheap`."""
    whole = candidate("student", batch, precision, "cheap")
    return replace(
        whole, student=replace(whole.student, name="resnet18", image_size=64), teacher=None
    )


CANDIDATES: tuple[tuple[Candidate, Allocator], ...] = (
    (candidate("teacher", 4, "fp32", 0), "expandable"),
    (candidate("teacher", 16, "fp16", 1), "expandable"),
    (candidate("assistant", 8, "bf16", 0), "native"),
    (candidate("assistant", 128, "bf16", 0), "expandable"),
    (candidate("student", 8, "fp16", 1), "expandable"),
    (candidate("student", 16, "fp32", 2), "native"),
    (replace(candidate("assistant", 32, "bf16", 0), teacher_logits="cached"), "expandable"),
    (replace(candidate("student", 8, "fp32", 0), teacher_logits="cached"), "native"),
    (candidate("assistant", 32, "fp16", 0).caching(), "expandable"),
    (candidate("teacher", 64, "bf16", "cheap"), "expandable"),
    (shallow("teacher", 16, "fp32", 2), "expandable"),
    (shallow("teacher", 32, "fp16", 3), "expandable"),
    (shallow("assistant", 32, "bf16", 1), "expandable"),
    (shallow("assistant", 8, "fp32", 3), "expandable"),
    (shallow("student", 64, "fp16", 2), "expandable"),
)

RESNET: tuple[Candidate, Allocator] = resnet(4, "fp32"), "expandable"
"""Its convolutions and batch norms are cuDNN's on a card and PyTorch's own under the driver."""

Request = tuple[str, ...]
"""`("random", allocator, seed)` or `("run", job)` (see `child`)."""


def recorded(library: Path, folder: Path, requests: Sequence[Request]) -> dict[Request, Recording]:
    """What each request leaves. Raises `RuntimeError` where one leaves nothing."""
    found = answers(library, "tests.driver.child", folder, requests, TARGET.total_bytes)
    read = map(Recording.model_validate_json, found)
    return dict(zip(requests, read, strict=True))


def run_of(folder: Path, wanted: Candidate, allocator: Allocator) -> Request:
    """The request for a candidate's first updates."""
    capability = TARGET.compute_capability
    pins = pins_for(wanted.precision, capability, deterministic=False, allocator=allocator)
    job = Job(candidate=wanted, pins=pins, device="cuda", cap_bytes=None)
    path = folder / f"job-{hash((wanted, allocator))}.json"
    path.write_text(json.dumps(job_document(job)))
    return "run", str(path)


TEACHERS = {"online": "", "cached": ", teacher cached", "caching": ": its teacher, alone"}


def _row(one: ComparedRecording) -> Row:
    wanted = one.recording.candidate
    model = "ResNet-18" if wanted == RESNET[0] else wanted.stage
    depth = wanted.student.depth
    blocks = "" if depth is None else f", {depth} blocks"
    if wanted.checkpointing == "cheap":
        blocks += ", cheap"
    elif wanted.checkpointing:
        blocks += f", every {wanted.checkpointing}. block checkpointed"
    teacher = TEACHERS[wanted.teacher_logits]
    return {
        "configuration": f"{model}, {wanted.precision}{blocks}{teacher}",
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
    """Build the stub driver, record under it, compare with the prediction, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        found = recorded(library, folder, [run_of(folder, *pair) for pair in (*CANDIDATES, RESNET)])
        judged = [compare_recording(recording, TARGET) for recording in found.values()]
        print(as_markdown([_row(one) for one in judged]))


if __name__ == "__main__":
    main()
