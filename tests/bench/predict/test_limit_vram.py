"""The marker `limit_vram`, as it stands in somebody's test."""

import pytest
import torch._inductor.test_operators  # noqa: F401 - pytester forgets modules; this loads but once

from bench.predict.limit_text import limit_in_bytes
from distill.base.errors import UserError

pytest_plugins = ["pytester"]

TESTS = """
import unittest
import pytest, torch
from torch import nn


def build(device, width):
    model = nn.Linear(width, width).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        model(torch.ones(8, width, device=device)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@pytest.fixture
def width():
    return 4096


@pytest.mark.limit_vram("1 GiB")
def test_fits(vram_device):
    return build(vram_device, 64)


@pytest.mark.limit_vram(target="rtx3060")
def test_fits_on_the_card(vram_device, width):
    return build(vram_device, width)


@pytest.mark.limit_vram("100 MiB", target="rtx3060", allocator="expandable")
def test_is_too_large(vram_device, width):
    return build(vram_device, width)


@pytest.mark.limit_vram("much")
def test_has_no_limit(vram_device):
    return build(vram_device, 64)


@pytest.mark.limit_vram("1 GiB", cart="rtx4050")
def test_has_a_wrong_word(vram_device):
    return build(vram_device, 64)


@pytest.mark.limit_vram("1 GiB")
def test_gives_no_step(vram_device):
    build(vram_device, 64)


@pytest.mark.limit_vram("1 GiB")
def test_reads_a_number(vram_device):
    return lambda: torch.ones(3, device=vram_device).sum().item()


@pytest.mark.limit_vram("1 GiB")
async def test_waits(vram_device):
    return build(vram_device, 64)


@pytest.mark.limit_vram("1 GiB")
class TestOfUnittest(unittest.TestCase):
    def test_gives_nothing_on(self):
        return lambda: None


def test_is_not_marked():
    assert True


def test_is_not_marked_and_builds_all_the_same(vram_device):
    return build(vram_device, 64)
"""


def test_a_marked_test_fails_where_a_card_would_not_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(
        "-p", "bench.predict.limit_vram", "-p", "no:cacheprovider", "--strict-markers"
    )
    result.assert_outcomes(passed=3, failed=7, errors=1)
    result.stdout.fnmatch_lines(
        [
            "vram_device is for tests with a mark: *",
            "limit_vram: The step is predicted to need * on RTX 3060 12 GB, * more than its limit "
            "of 100.0 MiB.",
            "Peak: * of update 1, aten.*, for *.",
            "Of * reserved then: *weights 64.0 MiB*.",
            "Largest: *.",
            "limit_vram: 'much' is no limit. Give a size such as \"5 GiB\", or bytes.",
            "limit_vram: The mark takes a limit, target and allocator: *",
            "limit_vram: test_gives_no_step gives NoneType, not a step: *",
            "limit_vram: The step can't be predicted at *.py:*: aten._local_scalar_dense.default *",
            "limit_vram: test_waits is async: *",
            "limit_vram: A test of unittest.TestCase can't give a step. *",
        ]
    )


@pytest.mark.parametrize(
    ("limit", "size_bytes"),
    [("5 GiB", 5 * 2**30), ("1.5GB", 1_500_000_000), ("512 mib", 2**29), (7, 7), ("9 B", 9)],
)
def test_a_limit_is_a_size_with_its_unit_or_bytes(limit: object, size_bytes: int) -> None:
    assert limit_in_bytes(limit) == size_bytes


@pytest.mark.parametrize("limit", ["5", "0 GiB", "GiB", "-1 GiB", "5 pigs", 0, -1, True, "0.1 B"])
def test_anything_else_is_no_limit(limit: object) -> None:
    with pytest.raises(UserError, match="is no limit"):
        limit_in_bytes(limit)


@pytest.mark.parametrize("limit", ["99999999999999999999 GiB", "9" * 400 + " B", 2**70])
def test_more_than_any_card_has_is_a_slip(limit: object) -> None:
    with pytest.raises(UserError, match="above 1,024 GiB, the most that is taken"):
        limit_in_bytes(limit)
