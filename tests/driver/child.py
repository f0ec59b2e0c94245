"""What runs under the stub driver: `python -m tests.driver.child REQUESTS`.

REQUESTS is a JSON list of `[OUT, "random", allocator, seed]`, with how many requests behind it
where they are others than 4,000, `[OUT, "run", job]` and `[OUT, "replica", job]`, a run that is one
of two that train together. For each a fork leaves a `Recording` in OUT, of a random history or of a
candidate's first updates: what they need is loaded once, the allocator is each fork's own.
"""

import json
import os
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from bench.evidence import recording_child
from bench.evidence.recording import STATISTICS, Recording, stripped
from bench.evidence.recording_child import MAX_EVENTS, record
from bench.measure.jobs import Job
from distill.spec.candidate import Allocator
from distill.spec.pins import pins_for, set_environment
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.step import Step
from tests.driver.forks import answer_each

REQUESTS = 4000
SIZES = [(1, 2**12), (2**12, 2**20), (2**20, 10 * 2**20), (10 * 2**20, 60 * 2**20)]
"""From and to how many bytes a request is drawn."""


def random_history(allocator: Allocator, seed: int, requests: int = REQUESTS) -> Recording:
    """Allocations of all sizes, freed in any order."""
    torch.cuda.init()
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_EVENTS)
    drawn, live = random.Random(seed), []
    for _ in range(requests):
        if live and drawn.random() < 0.47:
            live.pop(drawn.randrange(len(live)))
            continue
        low, high = drawn.choice(SIZES)
        live.append(torch.empty(drawn.randint(low, high), device="cuda", dtype=torch.uint8))
    snapshot = torch.cuda.memory._snapshot()
    statistics = torch.cuda.memory_stats()
    return Recording(
        source="recorded",
        candidate=load_recipe("demo").candidate("student", micro_batch=1),
        pins=pins_for("fp16", (8, 9), deterministic=False, allocator=allocator),
        marks=(("setup", 0),),
        statistics={name: int(statistics[name]) for name in STATISTICS},
        history=stripped(snapshot["device_traces"][0]),
    )


def first_updates(document: Any) -> Recording:
    """What `bench evidence` records on a card."""
    return record(TypeAdapter(Job).validate_python(document))


def two_at_once(store: Path) -> int:
    """Fork, so that what is recorded is one of two that train together; gives which one this is.

    Gradients go through memory of the host, so that nothing that sends them is on the device; NCCL
    asks the driver and not PyTorch's allocator.
    """
    rank = 0 if os.fork() else 1
    dist.init_process_group("gloo", store=dist.FileStore(str(store), 2), rank=rank, world_size=2)

    def replicated(*arguments: Any, **attributes: Any) -> Step:
        step = assemble(*arguments, **attributes)
        step.replicate(2)
        return step

    recording_child.assemble = replicated
    return rank


def recording_of(what: str, *arguments: str) -> Recording:
    """The recording that is asked for, with the allocator that it is to have."""
    if what == "random":
        allocator, *numbers = arguments
        set_environment(allocator=allocator, deterministic=False)
        return random_history(allocator, *map(int, numbers))
    document = json.loads(Path(arguments[0]).read_text())
    set_environment(allocator=document["pins"]["allocator"], deterministic=False)
    return first_updates(document)


def answer(what: str, *arguments: str) -> str | None:
    """A recording as JSON; `None` of the second of two that train together."""
    rank = two_at_once(Path(f"{arguments[0]}.store")) if what == "replica" else 0
    found = recording_of(what, *arguments)
    return None if rank else found.model_dump_json()


def main() -> None:
    """Record each in a fork."""
    import_module("timm"), import_module("torch._dynamo")  # before the forks, which need them
    answer_each(answer)


if __name__ == "__main__":
    main()
