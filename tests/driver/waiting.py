"""How often the host waits in an update: `python -m tests.driver.waiting`, under the driver.

Prints JSON: for each precision, and for all that a recipe may add, the waits of an update with a
look at its losses, of one without, and of an evaluation in two batches; pieces of memory that were
pinned after the first updates.
PyTorch itself refuses whatever waits for a whole stream (`set_sync_debug_mode`).
"""

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from bench.measure.noise import noise_batch
from distill.data.pinned_memory import in_pinned_memory
from distill.spec.candidate import Candidate, Precision
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.batch_result import BatchResult
from distill.step.memory import pinned
from distill.step.models import build, build_student

DRIVER = ctypes.CDLL(None)
MICRO_BATCHES = 2


def losses_are_read(results: list[BatchResult]) -> bool:
    """As training does between the last backward and the update."""
    return all(float(result.loss) is not None for result in results)


def waits_of(candidate: Candidate) -> dict[str, Any]:
    """The waits of one step, once everything has been made that is made once."""
    teacher = None if candidate.online_teacher is None else build(candidate.online_teacher)
    step = assemble(candidate, build_student(candidate), teacher, torch.device("cuda"))
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


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _logits_are_kept(results: list[BatchResult]) -> None:
    assert not any(result.logits.is_pinned() for result in results)


def _waits(work: Any) -> int:
    before = DRIVER.stub_waits()
    work()
    return int(DRIVER.stub_waits() - before)


def main() -> None:
    small = load_recipe("demo").candidate("student", micro_batch=4)
    seen = replace(small.input, crop_padding=1, flip=True)
    plain = replace(small, input=seen, clip_norm=True)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    wanted: dict[str, Candidate] = {
        precision: replace(plain, precision=precision) for precision in precisions
    }
    cropped = replace(small.input, crop_scale=0.5, flip=True)
    mixed = replace(cropped, mixup=0.8, cutmix=1.0, mixed_size=small.student.image_size)
    more = replace(wanted["bf16"], input=mixed, patch_drop_rate=0.5, label_smoothing=True)
    wanted["cached teacher"] = replace(more, soft_loss="logit_std", teacher_logits="cached")
    wanted["weighted"] = replace(more, class_weights=True, layer_decay=True)
    found = {}
    for name, candidate in wanted.items():
        pins = pins_for(candidate.precision, (8, 9), deterministic=False, allocator="expandable")
        with pinned(pins, torch.device("cuda")):
            found[name] = waits_of(candidate)
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # there is no driver to tidy up


if __name__ == "__main__":
    main()
