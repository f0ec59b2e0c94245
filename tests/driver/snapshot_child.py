"""`python -m tests.driver.snapshot_child SCRIPT`: PyTorch's snapshots of scripted allocations.

SCRIPT is a JSON object: `steps`, of which a positive number is bytes to allocate and another one
frees what came as number −n; and `outs`, a file for each allocator's snapshot.
"""

import json
import os
import pickle
import sys
from pathlib import Path

import torch

from distill.spec.pins import set_environment


def run(steps: list[int]) -> dict[str, object]:
    """Go through the steps under PyTorch's own history."""
    torch.cuda.init()
    torch.cuda.memory._record_memory_history(context="all", stacks="python")
    alive: dict[int, torch.Tensor] = {}
    allocated = 0
    for step in steps:
        if step > 0:
            alive[allocated] = torch.empty(step, device="cuda", dtype=torch.uint8)
            allocated += 1
        else:
            del alive[-step]
    found: dict[str, object] = torch.cuda.memory._snapshot()
    return found


def main() -> None:
    """One fork for each allocator, which is set before CUDA begins."""
    script = json.loads(Path(sys.argv[1]).read_text())
    for allocator, out in script["outs"].items():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        set_environment(allocator=allocator, deterministic=False)
        Path(out).write_bytes(pickle.dumps(run(script["steps"])))
        os._exit(0)


if __name__ == "__main__":
    main()
