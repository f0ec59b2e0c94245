"""One step under the allocator's own history, saved so that a model of it can be checked.

`python -m bench.measure.record --stage teacher --batch-size 8 … --out FILE.json.gz` on a GPU.
Saves what PyTorch's allocator did (action, address rank, size), its settings and its
statistics, and nothing that names the machine beyond card, driver and versions.
"""

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from distill.candidate import PRECISIONS, STAGES, Allocator, Precision, StageName
from distill.errors import NoDeviceError

STEPS = 3


@click.command()
@click.option("--recipe", default="cifar10", show_default=True)
@click.option("--stage", type=click.Choice(STAGES), required=True)
@click.option("--batch-size", type=click.IntRange(min=1), required=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option("--checkpointing", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--allocator", type=click.Choice(["expandable", "native"]), default="expandable")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    recipe: str,
    stage: StageName,
    batch_size: int,
    precision: Precision,
    checkpointing: int,
    allocator: Allocator,
    out: Path,
) -> None:
    """Record one candidate on the GPU that is there."""
    from dataclasses import replace

    from distill.pins import set_environment
    from distill.recipe import load_recipe

    set_environment(allocator=allocator, deterministic=False)
    loaded = load_recipe(recipe)
    candidate = replace(
        loaded.candidate(stage, micro_batch=batch_size),
        accumulation=1,
        precision=precision,
        checkpointing=checkpointing,
        implementation="fused",
    )
    import torch

    if not torch.cuda.is_available():
        raise NoDeviceError("Recording needs a CUDA device, and there is none here.")
    document = record(candidate, allocator)
    from distill.files import write_whole

    packed = gzip.compress(json.dumps(document).encode(), mtime=0)
    write_whole(out, lambda stream: stream.write(packed))
    click.echo(f"{out}: {len(document['events'])} events, {len(packed)} bytes")


def record(candidate: Any, allocator: Allocator) -> dict[str, Any]:
    """Run the candidate's step and give the allocator's history of it."""
    import torch

    from bench.measure.worker import _batch
    from distill.assemble import assemble
    from distill.memory import pinned
    from distill.models import build
    from distill.pins import pins_for

    device = torch.device("cuda", 0)
    capability = torch.cuda.get_device_capability(device)
    pins = pins_for(
        candidate.precision, capability, deterministic=candidate.deterministic, allocator=allocator
    )
    student = build(candidate.student, checkpointing=candidate.checkpointing)
    teacher = None if candidate.teacher is None else build(candidate.teacher)
    batches = [_batch(candidate) for _ in range(candidate.accumulation)]
    torch.cuda.memory._record_memory_history(max_entries=1_000_000, context=None, stacks="python")
    with pinned(pins, device):
        step = assemble(candidate, student, teacher, device)
        for _ in range(STEPS):
            step.train(batches)
        torch.cuda.synchronize(device)
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(enabled=None)
    return {
        "schema": 1,
        "candidate": asdict(candidate),
        "pins": pins.model_dump(mode="json"),
        "steps": STEPS,
        "card": torch.cuda.get_device_name(device),
        "compute_capability": capability,
        "torch": torch.__version__,
        "events": stripped(snapshot["device_traces"][0]),
        "statistics": {k: v for k, v in torch.cuda.memory_stats(device).items() if "peak" in k},
    }


def stripped(trace: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Action, rank of the address among all addresses, and size of each event, in order."""
    ranks = {address: rank for rank, address in enumerate(sorted({e["addr"] for e in trace}))}
    return [(event["action"], ranks[event["addr"]], event["size"]) for event in trace]


if __name__ == "__main__":
    main()
