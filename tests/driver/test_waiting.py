"""The host waits for the card once a micro-batch, for its loss, and for nothing else.

On PyTorch's own CUDA code under the stub driver and counts who waits.
"""

import json
from pathlib import Path

import pytest

from tests.driver.children import under_driver
from tests.driver.waiting import MICRO_BATCHES


@pytest.mark.slow
def test_an_update_waits_for_the_losses_alone_and_pins_nothing_more(library: Path) -> None:
    said = under_driver(library, "-m", "tests.driver.waiting", device_bytes=6 * 2**30)
    wanted = {"with a look": MICRO_BATCHES, "without": 0, "evaluated": 0, "pins": 0}
    found = json.loads(said)
    assert len(found) == 5 and found == dict.fromkeys(found, wanted)
