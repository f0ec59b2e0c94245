"""The host waits for the card once a micro-batch, for its loss, and for nothing else.

On PyTorch's own CUDA code under the driver that computes nothing and counts who waits.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.driver.build import environment
from tests.driver.waiting import MICRO_BATCHES


@pytest.mark.slow
def test_an_update_waits_for_the_losses_alone_and_pins_nothing_more(library: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.driver.waiting"],
        cwd=ROOT,
        env=environment(library, 6 * 2**30),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    wanted = {"with a look": MICRO_BATCHES, "without": 0, "evaluated": 0, "pins": 0}
    found = json.loads(child.stdout)
    assert len(found) == 5 and found == dict.fromkeys(found, wanted)
