"""Mains or battery, from folders as Linux has them under /sys/class/power_supply."""

from pathlib import Path

import pytest

from distill.device.power import power_source

BATTERY = {"type": "Battery", "status": "Discharging"}
MOUSE = BATTERY | {"scope": "Device"}


@pytest.mark.parametrize(
    ("supplies", "source"),
    [
        ([], None),
        ([BATTERY], "battery"),
        ([BATTERY, {"type": "Mains", "online": "0"}], "battery"),
        ([BATTERY, {"type": "Mains", "online": "1"}], "mains"),
        ([BATTERY | {"status": "Charging"}], "mains"),
        ([BATTERY | {"status": "Not charging"}], "mains"),
        ([BATTERY | {"status": "Unknown"}], None),
        ([MOUSE], None),
        ([MOUSE, BATTERY | {"status": "Full"}], "mains"),
    ],
)
def test_the_machines_own_supplies_decide(
    tmp_path: Path, supplies: list[dict[str, str]], source: str | None
) -> None:
    for number, supply in enumerate(supplies):
        (tmp_path / f"supply{number}").mkdir()
        for name, value in supply.items():
            (tmp_path / f"supply{number}" / name).write_text(f"{value}\n")
    assert power_source(tmp_path) == source


def test_where_nothing_is_told_nothing_is_guessed(tmp_path: Path) -> None:
    assert power_source(tmp_path / "nowhere") is None
