"""The start of every child: `python -m bench.measure.child MODULE JOB RESULT [--unpinned]`.

MODULE has a function `work(job_path, result_path)` that reads the one JSON file and writes the
other. Nothing is printed: stderr is kept as the error's detail, and how the process ended tells
the rest.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

from distill.base.parent_death import end_with_parent
from distill.spec.pins import set_environment

PINNED_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG")


def main() -> None:
    """Set the environment, then import the module, then do the job.

    The order matters: PyTorch reads its variables when it is loaded, which the module does.
    """
    end_with_parent()
    module, job, result, *flags = sys.argv[1:]
    if "--unpinned" in flags:
        for name in PINNED_VARIABLES:
            os.environ.pop(name, None)
    else:
        pin_environment(Path(job))
    import_module(module).work(Path(job), Path(result))


def pin_environment(job_path: Path) -> None:
    """Set the variables of the job's pins, if it has any."""
    document = json.loads(job_path.read_text(encoding="utf-8"))
    if document.get("pins") is not None:
        set_environment(
            allocator=document["pins"]["allocator"],
            deterministic=document["candidate"]["deterministic"],
        )


if __name__ == "__main__":
    main()
