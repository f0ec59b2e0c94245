"""Users' steps under the stub driver: `… steps_child REQUESTS`.

REQUESTS is a JSON list of `[OUT, module, name, allocator, updates]`: the step `name` in the table
`STEPS` of a module. For each a fork leaves in OUT what the allocator was asked for, in order, and
its peaks.
"""

import json
import os
from importlib import import_module

import torch

from bench.evidence.recording import STATISTICS, stripped
from bench.evidence.recording_child import MAX_EVENTS
from tests.driver.forks import answer_each


def recorded(module: str, name: str, allocator: str, updates: int) -> str:
    """What a step takes from when it is built, as JSON: requests in bytes, and peaks."""
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{allocator == 'expandable'}"
    torch.cuda.init()
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_EVENTS)
    step = import_module(module).STEPS[name](torch.device("cuda"))
    for _ in range(updates):
        step()
    history = stripped(torch.cuda.memory._snapshot()["device_traces"][0])
    statistics = torch.cuda.memory_stats()
    return json.dumps(
        {
            "requests": [history.sizes[index] for index in history.of("alloc")],
            "peaks": [int(statistics[one]) for one in STATISTICS[:3]],
        }
    )


def main() -> None:
    """Record each in a fork."""
    for name in ("torch._dynamo", "timm", "torchvision"):  # before the forks, which need them
        import_module(name)
    answer_each(recorded)


if __name__ == "__main__":
    main()
