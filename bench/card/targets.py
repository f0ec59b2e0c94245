"""Cards that a number can be for: those of the table, one in a file, the one that is here."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.card.detect import CardFacts, detect_card
from distill.base.errors import NoDeviceError, UserError
from distill.base.units import GIB, MIB, bytes_text
from distill.spec.profile import Target


def target_names() -> list[str]:
    """The cards that are known by name."""
    return list(_table())


def target_named(name: str) -> Target:
    """A card by name, or from a JSON file with a target as profiles have it.

    Raises `UserError` for a name that is not in the table and a file that holds no target.
    """
    if name.endswith(".json"):
        return _target_in(Path(name))
    table = _table()
    if name not in table:
        raise UserError(f"Unknown target {name!r}. There are: {', '.join(table)}.")
    row = table[name]
    return Target(
        name=name,
        title=row["title"],
        compute_capability=tuple(row["compute_capability"]),
        multiprocessors=row["multiprocessors"],
        threads_per_multiprocessor=row["threads_per_multiprocessor"],
        total_bytes=row["total_mib"] * MIB,
        fp32_flops=row["fp32_tflops"] * 1e12,
        half_flops=row["half_tflops"] * 1e12,
        bandwidth_bytes=row["bandwidth_gbs"] * 1e9,
    )


def target_like(card: CardFacts) -> Target:
    """The card that is there, with the peak rates of the known card nearest to it.

    It goes by that one's name if it is the same model, else by its own.
    """
    known = [target_named(name) for name in target_names()]
    own = short_name(card.name)
    name = next((target.name for target in known if short_name(target.title) == own), own)

    def distance(target: Target) -> tuple[bool, int]:
        return (
            target.compute_capability[0] != card.compute_capability[0],
            abs(target.multiprocessors - card.multiprocessors),
        )

    return card.as_target(name, like=min(known, key=distance))


def target_asked(name: str) -> Target:
    """A card by name or file, or with `auto` the one that is here.

    Raises `NoDeviceError` where there is none.
    """
    if name != "auto":
        return target_named(name)
    card = detect_card()
    if card is None:
        raise NoDeviceError("--target auto needs a GPU, and none is here. Name a card instead.")
    return target_like(card)


def short_name(device: str) -> str:
    """`NVIDIA GeForce RTX 4050 Laptop GPU` as `rtx-4050-laptop`."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    return "-".join(word for word in words if word not in ("nvidia", "geforce", "gpu"))


def is_native(card: CardFacts, nominal_gib: float) -> bool:
    """Tell whether the card is itself one of that size, or smaller; else it imitates one."""
    return card.total_bytes <= nominal_gib * GIB


def target_line(target: Target) -> str:
    """The card that numbers are for."""
    major, minor = target.compute_capability
    return f"{target.title} (compute capability {major}.{minor}, {bytes_text(target.total_bytes)})"


def _target_in(path: Path) -> Target:
    try:
        return Target.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read target {path} ({error.strerror}).") from error
    except ValidationError as error:
        raise UserError(f"{path} is no target: {error.errors()[0]['msg']}.") from error


def _table() -> dict[str, dict[str, Any]]:
    text = (resources.files("bench.card") / "cards.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
