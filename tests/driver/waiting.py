"""How often the host waits in an update: `python -m tests.driver.waiting`, under the driver.

Prints JSON: for each precision the waits of an update with a look at its losses, of one without,
and of an evaluation in two batches; pieces of memory that were pinned after the first updates.
PyTorch itself refuses whatever waits for a whole stream (`set_sync_debug_mode`).
"""

import ctypes
import json
import os
import sys
from dataclasses import replace
from typing import Any

import torch

from bench.measure.noise import noise_batch
from distill.data.batches import Batch
from distill.data.pinned_memory import in_pinned_memory
from distill.spec.candidate import Candidate, Precision
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.memory import pinned
from distill.step.models import build
from distill.step.step import BatchResult

DRIVER = ctypes.CDLL(None)
MICRO_BATCHES = 2


def losses_are_read(results: list[BatchResult]) -> bool:
    """As training does between the last backward and the update."""
    return all(float(result.loss) is not None for result in results)


def waits_of(candidate: Candidate) -> dict[str, Any]:
    """The waits of one step, once everything has been made that is made once."""
    student, teacher = build(candidate.student), build(candidate.teacher)
    step = assemble(candidate, student, teacher, torch.device("cuda"))
    plain = [noise_batch(candidate) for _ in range(MICRO_BATCHES)]
    batches = [in_pinned_memory(batch) for batch in plain]
    for batch, before in zip(batches, plain, strict=True):
        for tensor, as_it_was in zip(_tensors(batch), _tensors(before), strict=True):
            assert tensor.is_pinned() and torch.equal(tensor, as_it_was)
    for _ in range(2):
        step.train(batches, losses_are_read)
    torch.cuda.set_sync_debug_mode("error")
    pins = DRIVER.stub_pins()
    found: dict[str, Any] = {
        "with a look": _waits(lambda: _logits_are_kept(step.train(batches, losses_are_read))),
        "without": _waits(lambda: step.train(batches)),
        "evaluated": _waits(lambda: [step.evaluate(replace(b, views=None)) for b in batches]),
    }
    found["pins"] = DRIVER.stub_pins() - pins
    torch.cuda.set_sync_debug_mode("default")
    return found


def _tensors(batch: Batch) -> list[torch.Tensor]:
    assert batch.views is not None
    views = batch.views
    return [batch.images, batch.labels, views.offset_y, views.offset_x, views.flip]


def _logits_are_kept(results: list[BatchResult]) -> None:
    assert not any(result.logits.is_pinned() for result in results)


def _waits(work: Any) -> int:
    before = DRIVER.stub_waits()
    work()
    return int(DRIVER.stub_waits() - before)


def main() -> None:
    small = load_recipe("demo").candidate("student", micro_batch=4)
    wanted = replace(small, input=replace(small.input, crop_padding=1, flip=True), clip_norm=True)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    found = {}
    for precision in precisions:
        pins = pins_for(precision, (8, 9), deterministic=False, allocator="expandable")
        with pinned(pins, torch.device("cuda")):
            found[precision] = waits_of(replace(wanted, precision=precision))
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # there is no driver to tidy up


if __name__ == "__main__":
    main()
