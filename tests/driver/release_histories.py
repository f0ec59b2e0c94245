"""What a release of torch asks for, small enough to keep. Run as `COMMAND`, it writes a file.

Under the stub driver: a short random history of each allocator, and the requests
of the calls whose rules differ between releases. It goes to `releases/torch-VERSION.json.gz`, by
which any other release tests the rules of this one.
"""

import gzip
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill.base.files import write_whole
from distill.spec.candidate import Allocator
from tests.driver.build import build
from tests.driver.children import answers, under_driver

FOLDER = Path(__file__).with_name("releases")
COMMAND = "python -m tests.driver.release_histories"
SEED, REQUESTS, CARD_BYTES = 2, 600, 6 * 2**30
EXPANDABLE = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
ALLOCATORS: tuple[Allocator, ...] = ("expandable", "native")

aten = torch.ops.aten
Call = tuple[Any, tuple[Any, ...]]


def _numbers(device: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device=device, dtype=dtype)


def _attention(device: str, *rest: Any) -> Call:
    query = _numbers(device, 2, 4, 64, 32)
    return aten._scaled_dot_product_efficient_attention.default, (query, query, query, *rest)


def _embedding(device: str, rows: int) -> Call:
    indices = _numbers(device, 5000, dtype=torch.int64)
    grad = _numbers(device, 5000, 16)
    return aten.embedding_dense_backward.default, (grad, indices, rows, -1, False)


def _product(device: str, op: Any, *shapes: tuple[int, ...]) -> Call:
    return op, tuple(_numbers(device, *shape) for shape in shapes)


CALLS: dict[str, Callable[[str], Call]] = {
    "any of fp32": lambda on: (aten.any.default, (_numbers(on, 8, 300_000),)),
    "all of bf16": lambda on: (
        aten.all.default,
        (_numbers(on, 8, 300_000, dtype=torch.bfloat16),),
    ),
    "largest of fp32": lambda on: (aten.amax.default, (_numbers(on, 8, 300_000),)),
    **{
        f"gradient of {rows} words": lambda on, rows=rows: _embedding(on, rows)  # type: ignore[misc]
        for rows in (90, 255, 256, 65_535, 65_536)
    },
    "norms of a list": lambda on: (
        aten._foreach_norm.Scalar,
        ([_numbers(on, count) for count in (10, 65_536, 65_537, 200_000, 5)], 2),
    ),
    "attention": lambda on: _attention(on, None, True),
    "attention that drops": lambda on: _attention(on, None, True, 0.1),
    "product": lambda on: _product(on, aten.mm.default, (64, 64), (64, 64)),
    "product with bias": lambda on: _product(on, aten.addmm.default, (64,), (64, 64), (64, 64)),
    "product with matrix": lambda on: _product(
        on, aten.addmm.default, (64, 64), (64, 64), (64, 64)
    ),
    "batch of products": lambda on: _product(on, aten.bmm.default, (4, 64, 64), (4, 64, 64)),
}
"""Calls in this order, each with its operands on a device; the first product takes a workspace."""


def recorded_requests() -> dict[str, list[int]]:
    """Bytes that each call asks for, in order. Runs under the driver."""
    torch.cuda.init()
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=10_000)
    found = {}
    for name, call in CALLS.items():
        op, operands = call("cuda")
        before = len(torch.cuda.memory._snapshot()["device_traces"][0])
        result = op(*operands)
        events = torch.cuda.memory._snapshot()["device_traces"][0][before:]
        found[name] = [event["size"] for event in events if event["action"] == "alloc"]
        del result
    return found


def main() -> None:
    """Record and write; with `requests`, under the driver, print what the calls ask for."""
    if sys.argv[1:] == ["requests"]:
        print(json.dumps(recorded_requests()))
        return
    release = torch.__version__.split("+")[0]
    drawn = [("random", allocator, str(SEED), str(REQUESTS)) for allocator in ALLOCATORS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        histories = answers(library, "tests.driver.child", folder, drawn, CARD_BYTES)
        own = "-m", "tests.driver.release_histories", "requests"
        requests = under_driver(library, *own, device_bytes=CARD_BYTES, **EXPANDABLE)
    document = {
        "torch": release,
        "command": COMMAND,
        "recordings": [json.loads(history) for history in histories],
        "requests": json.loads(requests),
    }
    FOLDER.mkdir(exist_ok=True)
    packed = gzip.compress(json.dumps(document).encode(), mtime=0)
    write_whole(FOLDER / f"torch-{release}.json.gz", lambda file: file.write(packed))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
