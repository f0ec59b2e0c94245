"""The recorder, as far as it goes without a GPU."""

import pytest
import torch
from click.testing import CliRunner

from bench.measure.record import main, stripped


def test_a_trace_is_stripped_to_action_address_rank_and_size() -> None:
    trace = [
        {"action": "segment_alloc", "addr": 0x7F00, "size": 2097152, "stream": 0, "frames": []},
        {"action": "alloc", "addr": 0x7F00, "size": 512, "stream": 0, "frames": ["secret"]},
        {"action": "alloc", "addr": 0x7E00, "size": 1024, "stream": 0, "frames": []},
    ]
    assert stripped(trace) == [
        ("segment_alloc", 1, 2097152),
        ("alloc", 1, 512),
        ("alloc", 0, 1024),
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_says_so(tmp_path) -> None:
    arguments = ["--stage", "teacher", "--batch-size", "8", "--out", str(tmp_path / "trace.gz")]
    result = CliRunner().invoke(main, arguments)
    assert "needs a CUDA device" in str(result.exception or result.output)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_step_is_recorded(tmp_path) -> None:
    arguments = ["--stage", "student", "--batch-size", "2", "--out", str(tmp_path / "trace.gz")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "trace.gz").stat().st_size > 1000
