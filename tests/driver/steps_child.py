"""Steps that are not ours under the stub driver: `… steps_child REQUESTS`.

REQUESTS is a JSON list of `[OUT, module, name, allocator, updates]`: the step `name` in the table
`STEPS` of a module. For each a fork leaves in OUT what the allocator was asked for, in order, and
its peaks.
"""

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

import torch

from bench.evidence.recording import STATISTICS, stripped
from bench.evidence.recording_child import MAX_EVENTS


def recorded(module: str, name: str, updates: int) -> dict[str, object]:
    """What a step takes from when it is built: requests in bytes, and peaks."""
    torch.cuda.init()
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_EVENTS)
    step = import_module(module).STEPS[name](torch.device("cuda"))
    for _ in range(updates):
        step()
    history = stripped(torch.cuda.memory._snapshot()["device_traces"][0])
    statistics = torch.cuda.memory_stats()
    return {
        "requests": [history.sizes[index] for index in history.of("alloc")],
        "peaks": [int(statistics[one]) for one in STATISTICS[:3]],
    }


def main() -> None:
    """Record each in a fork, which leaves without tidying up what is not there."""
    for name in ("torch._dynamo", "timm", "torchvision"):  # before the forks, which need them
        import_module(name)
    for out, module, name, allocator, updates in json.loads(Path(sys.argv[1]).read_text()):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        try:
            os.environ["PYTORCH_CUDA_ALLOC_CONF"] = (
                f"expandable_segments:{allocator == 'expandable'}"
            )
            Path(out).write_text(json.dumps(recorded(module, name, updates)))
        except BaseException:  # noqa: BLE001 - the process ends here, and says why
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
