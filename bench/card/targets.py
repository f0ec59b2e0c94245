"""Cards that a number can be for, and the budget that is left on one. Reads no device."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.card.detect import CardFacts
from distill.base.errors import UserError
from distill.base.units import GIB, MIB
from distill.spec.profile import Budget, Target

SHARE_SEEN = 0.94
"""What an RTX 4050 Laptop shows PyTorch on Linux of the size on its box, rounded down."""

CONTEXT_BYTES = 512 * MIB
"""Assumed until measured: contexts of 0.3 to 0.6 GiB are reported for lazily loading CUDA."""

MARGIN_BYTES = 256 * MIB
"""Assumed: room for what no prediction knows, above all cuDNN's convolution workspaces."""


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


def short_name(device: str) -> str:
    """`NVIDIA GeForce RTX 4050 Laptop GPU` as `rtx-4050-laptop`."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    return "-".join(word for word in words if word not in ("nvidia", "geforce", "gpu"))


def is_native(card: CardFacts, nominal_gib: float) -> bool:
    """Whether the card is itself one of that size, or smaller; else it imitates one."""
    return card.total_bytes <= nominal_gib * GIB


def assumed_budget(nominal_gib: float) -> Budget:
    """What PyTorch may reserve on a card of which only the size on the box is known.

    Raises `UserError` when nothing is left.
    """
    total_bytes = int(SHARE_SEEN * nominal_gib * GIB) // MIB * MIB
    return budget(
        nominal_gib,
        card_total_bytes=total_bytes,
        card_total_source="assumed",
        context_bytes=CONTEXT_BYTES,
        context_source="assumed",
    )


def budget(
    nominal_gib: float,
    *,
    card_total_bytes: int,
    card_total_source: str,
    context_bytes: int,
    context_source: str,
    desktop_bytes: int = 0,
    desktop_source: str = "assumed",
) -> Budget:
    """card total − context − desktop − margin. Raises `UserError` when nothing is left."""
    limit_bytes = card_total_bytes - context_bytes - desktop_bytes - MARGIN_BYTES
    if limit_bytes <= 0:
        raise UserError(
            f"--vram {nominal_gib:g} leaves nothing to train in: {card_total_bytes // MIB} MiB, "
            f"less {context_bytes // MIB} of CUDA context, {desktop_bytes // MIB} of desktop and "
            f"{MARGIN_BYTES // MIB} of margin. Name a larger card."
        )
    return Budget.model_validate(
        {
            "nominal_gib": nominal_gib,
            "card_total_bytes": card_total_bytes,
            "card_total_source": card_total_source,
            "context_bytes": context_bytes,
            "context_source": context_source,
            "desktop_bytes": desktop_bytes,
            "desktop_source": desktop_source,
            "margin_bytes": MARGIN_BYTES,
            "margin_source": "assumed",
            "limit_bytes": limit_bytes,
        }
    )


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
