"""What happens to images and labels on the device is traced with the step, whatever the data."""

from dataclasses import replace

import pytest

from bench.simulate.trace.tracer import trace_step


@pytest.mark.parametrize("change", [{"crop_scale": 0.3, "crop_padding": 0}, {"multi_label": True}])
def test_other_inputs_are_traced_too(small_candidate, change: dict[str, object]) -> None:
    plain = trace_step(small_candidate, attention="efficient")
    inputs = replace(small_candidate.input, **change)
    other = trace_step(replace(small_candidate, input=inputs), attention="efficient")
    assert len(other.base) and other.base.tolist() != plain.base.tolist()
