"""The recorder: on a card the allocator's own history, on a CPU the same way with an imitation."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.evidence.allocator_check import check_allocator
from bench.evidence.record import RECORDING_CHILD
from bench.evidence.recording import Recording
from bench.evidence.recording_child import record
from bench.measure.jobs import Job, job_document
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for


def job(candidate: Candidate, device: str) -> Job:
    pins = pins_for("fp32", (8, 9), deterministic=False, allocator="expandable")
    there = replace(candidate, implementation="fused", accumulation=2)
    return Job(candidate=there, pins=pins, device=device, cap_bytes=None)


def recorded_by_a_child(folder: Path, wanted: Job) -> Recording:
    request, result = folder / "job.json", folder / "result.json"
    request.write_text(json.dumps(job_document(wanted)))
    command = [
        sys.executable,
        "-m",
        "bench.measure.child",
        RECORDING_CHILD,
        str(request),
        str(result),
    ]
    subprocess.run(command, check=True, timeout=120)
    return Recording.model_validate(json.loads(result.read_text()))


@pytest.mark.slow
def test_on_a_cpu_the_steps_run_and_the_history_is_imitated(
    tmp_path: Path, small_candidate: Candidate
) -> None:
    """The phases are those of the steps that ran: imitation and step must have the same."""
    recording = recorded_by_a_child(tmp_path, job(small_candidate, "cpu"))
    assert recording.source == "imitated"
    assert [phase for phase, _ in recording.marks][-1] == "evaluate"
    assert recording.history is not None and len(recording.history) > 500
    assert check_allocator(recording) == []


def test_what_the_prediction_leaves_out_is_not_recorded(small_candidate: Candidate) -> None:
    with pytest.raises(ValueError, match="whole updates"):
        record(job(replace(small_candidate, images_per_epoch=100), "cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_allocator_is_recorded(tmp_path: Path, small_candidate: Candidate) -> None:
    recording = recorded_by_a_child(tmp_path, job(small_candidate, "cuda"))
    assert recording.source == "recorded"
    assert check_allocator(recording) == []
