"""DistributedDataParallel's buckets, held against two processes that train together."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.evidence.recording import STATISTICS
from bench.simulate.predictor import Predictor
from tests.driver.recordings import TARGET, candidate, recorded, run_of

pytestmark = pytest.mark.slow

CANDIDATES = (
    replace(candidate("student", 16, "fp16", 0), accumulation=1),
    replace(candidate("student", 8, "fp32", 1), accumulation=2),
)


def test_one_of_two_processes_takes_what_is_predicted(library: Path, tmp_path: Path) -> None:
    """Two real processes on the driver, whose gradients meet in memory of the host."""
    requests = [("replica", run_of(tmp_path, one, "expandable")[1]) for one in CANDIDATES]
    found = recorded(library, tmp_path, requests)
    for wanted, request in zip(CANDIDATES, requests, strict=True):
        peaks = [found[request].statistics[name] for name in STATISTICS if name.endswith("peak")]
        prediction = Predictor(TARGET, "expandable", replicas=2).predict(wanted)
        assert [prediction.requested, prediction.allocated, prediction.reserved] == peaks
