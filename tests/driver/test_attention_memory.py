"""Attention maps take less of a card than their stage did, on PyTorch's own CUDA code."""

import json
from pathlib import Path

import pytest

from tests.driver.children import under_driver

pytestmark = pytest.mark.slow

STAGE_AND_PICTURES = """
import json
import numpy as np, torch
from dataclasses import replace
from distill.data.batches import Batch
from distill.report.attention.image_attention import Shown, Viewer
from distill.spec.recipe import load_recipe
from distill.step.assemble import assemble
from distill.step.memory import read_peaks, reset_peaks
from distill.step.models import build

device = torch.device("cuda", 0)
candidate = replace(load_recipe("demo").candidate("teacher", micro_batch=1), checkpointing=1)
student = build(candidate.student, checkpointing=1)
step = assemble(candidate, student, None, device)
batch = Batch(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), None)
for _ in range(2):
    step.train([batch])
step.evaluate(batch)
trained = read_peaks(device)
reset_peaks(device)
viewer = Viewer(model=student, prepare=step.prepare, names=list("0123456789"), several=False)
before = torch.cuda.memory_allocated()
for _ in range(3):
    viewer.look(Shown(pixels=np.zeros((1, 8, 8), np.uint8), caption=""))
drawn = read_peaks(device)
print(json.dumps([vars(trained), vars(drawn), before, torch.cuda.memory_allocated()]))
"""


def test_the_smallest_stage_has_room_for_its_maps(library: Path, tmp_path: Path) -> None:
    """One image at a time, every block checkpointed: no stage takes less than that."""
    program = ["-c", STAGE_AND_PICTURES]
    said = under_driver(library, *program, device_bytes=6 * 2**30, folder=tmp_path, finite=True)
    trained, drawn, before, after = json.loads(said)
    assert drawn["allocated_bytes"] < trained["allocated_bytes"]
    assert drawn["reserved_bytes"] <= trained["reserved_bytes"]
    assert after == before
