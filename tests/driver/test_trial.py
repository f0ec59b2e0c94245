"""A trial through CUDA's own calls: what is read, and what a driver without time can't tell."""

import json
from pathlib import Path

import pytest

from bench.measure.isolate import Ended, outcome_of
from bench.measure.jobs import TrialJob, job_document
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.step_times import quartiles_of
from tests.driver.children import under_driver

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bench.measure.trial_child", "bench.evidence.plain_loop"])
def test_times_are_read_and_what_is_not_told_is_none_with_its_reason(
    library: Path, tmp_path: Path, small_candidate: Candidate, module: str
) -> None:
    job = TrialJob(
        candidate=small_candidate,
        pins=pins_for("fp32", (8, 9), deterministic=False, allocator="expandable"),
        device="cuda",
        cap_bytes=None,
        count_launches=True,
    )
    (tmp_path / "job.json").write_text(json.dumps(job_document(job)))
    under_driver(
        library,
        *("-m", "bench.measure.child", module, "job.json", "result.json"),
        device_bytes=6 * 2**30,
        folder=tmp_path,
        PYTHONWARNINGS="error",
    )
    result = json.loads((tmp_path / "result.json").read_text())
    outcome, reading, _ = outcome_of(Ended(0, ""), result, 120)
    assert outcome == "ok" and reading is not None and reading.reserved_bytes
    assert len(reading.step_seconds) == job.timed_steps
    assert reading.quartiles == quartiles_of(reading.step_seconds)
    assert job.warm_up.is_over(reading.warm_up_seconds)
    assert reading.settled is not None
    assert (reading.card_seconds, reading.launches) == (None, None)
    assert reading.missing is not None
    assert reading.missing["card_seconds"] == "the card's events tell no time"
    assert reading.missing["launches"] == "CUPTI told of no launch"
