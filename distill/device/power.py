"""The power that the machine runs on, mains or battery, as Linux tells it. Guesses nothing."""

from pathlib import Path
from typing import Literal

SUPPLIES = Path("/sys/class/power_supply")


def power_source(supplies: Path = SUPPLIES) -> Literal["mains", "battery"] | None:
    """`mains`, `battery`, or `None` where neither is told (a desktop, a container, Windows).

    Batteries of mice and keyboards (`scope` is `Device`) are not the machine's.
    """
    own = [folder for folder in _folders(supplies) if _read(folder / "scope") != "Device"]
    kinds = {folder: _read(folder / "type") for folder in own}
    online = [_read(folder / "online") for folder, kind in kinds.items() if kind != "Battery"]
    if "1" in online:
        return "mains"
    states = [_read(folder / "status") for folder, kind in kinds.items() if kind == "Battery"]
    if "Discharging" in states:
        return "battery"
    return "mains" if {"Charging", "Not charging", "Full"} & set(states) else None


def _folders(supplies: Path) -> list[Path]:
    try:
        return sorted(supplies.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
