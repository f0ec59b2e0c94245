"""Hidden allocations, each worked out by hand."""

import pytest

from bench.cards import target_named
from bench.predict.kernels import ROWS, Card, KernelTable
from distill.pins import pins_for


def table(deterministic: bool = False, target: str = "rtx4050") -> KernelTable:
    card = target_named(target)
    pins = pins_for(
        "fp16", card.compute_capability, deterministic=deterministic, allocator="native"
    )
    return KernelTable(Card(card, pins, deterministic))


VIT_BASE = (64, 12, 197, 64)


@pytest.mark.parametrize(
    ("row", "dims", "deterministic", "size"),
    [
        ("cublas workspace", (), False, 2 * 4096 * 1024 + 8 * 16 * 1024),
        ("cublas workspace", (), True, 8 * 4096 * 1024),
        ("flash backward softmax_d", VIT_BASE, False, 64 * 12 * 256 * 4),
        ("flash backward dq_accum", VIT_BASE, False, 64 * 256 * 12 * 64 * 4),
        ("flash backward dq_accum", (1, 3, 17, 40), False, 1 * 128 * 3 * 64 * 4),
        ("flash backward dq_accum", (1, 3, 197, 64), True, 7 * 1 * 256 * 3 * 64 * 4),
    ],
)
def test_a_row_by_hand(row: str, dims, deterministic: bool, size: int) -> None:
    assert table(deterministic).size(row, dims) == size


def test_a_deterministic_flash_backward_makes_a_copy_for_each_share_of_the_card() -> None:
    small, large = table(True), table(True, "h200")
    dims = (1, 3, 197, 64)
    one = table().size("flash backward dq_accum", dims)
    assert small.size("flash backward dq_accum", dims) == 7 * one  # 20 SM over 3 heads
    assert large.size("flash backward dq_accum", dims) == 44 * one  # 132 SM


def test_every_row_names_its_source() -> None:
    assert all(len(row.source) > 20 for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
