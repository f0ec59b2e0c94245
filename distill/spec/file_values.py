"""Values that files of several kinds hold: bytes, who owns them, cards, pins. What each must be."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from distill.base.units import GIB, MIB
from distill.spec.bounds import MOST_VRAM_GIB
from distill.spec.pins import Pins

Bytes = Annotated[int, Field(ge=0)]
CardBytes = Annotated[int, Field(ge=MIB, le=MOST_VRAM_GIB * GIB)]
PerSecond = Annotated[float, Field(ge=1e6, le=1e18, allow_inf_nan=False)]
Capability = tuple[Annotated[int, Field(ge=1, le=99)], Annotated[int, Field(ge=0, le=9)]]

Owner = Literal[
    "weights",
    "gradients",
    "optimizer_state",
    "activations",
    "teacher",
    "low_precision_weights",
    "temporaries",
    "workspaces",
]
OWNERS: tuple[Owner, ...] = get_args(Owner)

BREAKDOWN = (*OWNERS, "allocator_slack")
"""Who a reserved byte can belong to, and what the allocator holds beyond them."""


def _whole_breakdown(breakdown: dict[str, int]) -> dict[str, int]:
    if breakdown.keys() != set(BREAKDOWN):
        unlike = sorted(breakdown.keys() ^ set(BREAKDOWN))[0]
        raise ValueError(f"{unlike[:80]} is {'too much' if unlike in breakdown else 'missing'}")
    return breakdown


def _readable_pins(pins: Pins) -> Pins:
    if not re.fullmatch(r"(:\d{1,9}:\d{1,9})+", pins.cublas_workspace_config):
        raise ValueError(f"cublas_workspace_config = {pins.cublas_workspace_config[:80]!r}")
    return pins


Breakdown = Annotated[
    dict[str, Bytes],
    AfterValidator(_whole_breakdown),
    Field(json_schema_extra={"required": list(BREAKDOWN), "propertyNames": {"enum": [*BREAKDOWN]}}),
]
"""Bytes of each owner, none left out."""

ReadPins = Annotated[Pins, AfterValidator(_readable_pins)]
"""Pins out of a file."""
