"""Numbers as text."""

import pytest

from distill.base.units import GIB, MIB, bytes_text, count_text, duration, mib, percent, rate


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (8_519_680, "8.1 MiB"),
        (6_214_189_056, "5.79 GiB"),
        (-MIB, "-1.0 MiB"),
        (None, "–"),
    ],
)
def test_bytes_get_the_largest_readable_unit(size: int | None, text: str) -> None:
    assert bytes_text(size) == text


def test_mib_rounds_up_so_that_a_peak_never_looks_smaller() -> None:
    assert mib(MIB + 1) == "2"
    assert mib(5 * GIB) == "5,120"
    assert mib(None) == "–"


def test_not_measured_is_a_dash_and_never_zero() -> None:
    assert {mib(None), bytes_text(None), duration(None), rate(None), percent(1, 0)} == {"–"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4213, "0.42 s"), (41.2, "41 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rates_have_three_digits() -> None:
    assert rate(44.26) == "44.3"
    assert rate(1234.5) == "1,234"


def test_a_small_rate_is_never_none() -> None:
    assert (rate(0.1), rate(0.0312), rate(4e-7)) == ("0.1", "0.031", "4e-07")


@pytest.mark.parametrize(
    ("count", "text"), [(512, "512"), (21_700, "21.7 k"), (85_806_346, "85.81 M")]
)
def test_counts_are_told_in_thousands_and_millions(count: int, text: str) -> None:
    assert count_text(count) == text
