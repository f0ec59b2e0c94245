"""The table of known cards, a card in a file of the user's, and what a card can do. Pure.

`cards.toml` and a user's file have one schema, `Card`. Loads pydantic, no torch.
"""

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator

from bench.card.budget import SHARE_SEEN
from distill.base.units import GIB, MIB
from distill.spec.bounds import LEAST_VRAM_GIB, MOST_VRAM_GIB
from distill.spec.frozen import FrozenModel
from distill.spec.profile import Target

FLASH_FROM = (8, 0)
"""Flash attention, and 16-bit brain floats in hardware. PyTorch emulates bf16 below, but none of
its attention kernels takes it there (sdp_utils.cpp, torch 2.11): nothing here uses that."""

TENSOR_CORES_FROM = (7, 0)
BUILT_FROM = (7, 5)
"""The least that PyTorch's builds for CUDA 12.8 and later have kernels for (2.11, RELEASE.md)."""

BEYOND_KNOWN = 1.25
"""How far a rate that nobody gave may lie above those of known cards: clocks differ by less."""

Rate = Annotated[float, Field(ge=1e-3, le=1e6, allow_inf_nan=False)]


class Card(FrozenModel):
    """One card, as `cards.toml` and a user's TOML file have it.

    `box_gib` is the memory that its box says. Without `total_mib`, what PyTorch reports, 0.94 of
    that is assumed. A rate that is left out is a quarter above the highest of the known cards of
    its generation, FLOP/s by the multiprocessor: a roofline from it is still an upper bound.
    """

    title: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f]+$")]
    box_gib: Annotated[float, Field(ge=LEAST_VRAM_GIB, le=MOST_VRAM_GIB, allow_inf_nan=False)]
    compute_capability: tuple[Annotated[int, Field(ge=5, le=19)], Annotated[int, Field(ge=0, le=9)]]
    multiprocessors: Annotated[int, Field(ge=1, le=1024)]
    total_mib: Annotated[int, Field(ge=1, le=1024 * 1024)] | None = None
    fp32_tflops: Rate | None = None
    half_tflops: Rate | None = None
    bandwidth_gbs: Rate | None = None
    recorded: bool = False

    @field_validator("total_mib")
    @classmethod
    def _is_in_the_box(cls, total_mib: int | None, info: ValidationInfo) -> int | None:
        if total_mib is not None and total_mib * MIB > info.data.get("box_gib", 0) * GIB:
            raise ValueError("PyTorch sees less than box_gib")
        return total_mib

    @property
    def total_bytes(self) -> int:
        """What PyTorch reports, or what is assumed that it does."""
        if self.total_mib is None:
            return int(SHARE_SEEN * self.box_gib * GIB) // MIB * MIB
        return self.total_mib * MIB

    def target(self, name: str) -> Target:
        """The card as what a number is for."""
        return Target(
            name=name,
            title=self.title if self._rates_are_given else f"{self.title}, rates assumed",
            compute_capability=self.compute_capability,
            multiprocessors=self.multiprocessors,
            threads_per_multiprocessor=threads_per_multiprocessor(self.compute_capability),
            total_bytes=self.total_bytes,
            fp32_flops=self._rate("fp32_tflops") * 1e12,
            half_flops=self._rate("half_tflops") * 1e12,
            bandwidth_bytes=self._rate("bandwidth_gbs") * 1e9,
        )

    @property
    def _rates_are_given(self) -> bool:
        return None not in (self.fp32_tflops, self.half_tflops, self.bandwidth_gbs)

    def _rate(self, name: str) -> float:
        """The rate of that name, or one that no such card is known to exceed."""
        given: float | None = getattr(self, name)
        if given is not None:
            return given
        known = list(known_cards().values())
        major = self.compute_capability[0]
        akin = [card for card in known if card.compute_capability[0] == major] or known
        if name == "bandwidth_gbs":
            return BEYOND_KNOWN * max(card._rate(name) for card in akin)
        highest = max(card._rate(name) / card.multiprocessors for card in akin)
        return BEYOND_KNOWN * highest * self.multiprocessors


@cache
def known_cards() -> dict[str, Card]:
    """The table, by name, in the order of the file."""
    text = (resources.files("bench.card") / "cards.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Card]).validate_python(tomllib.loads(text))


def nearest(capability: tuple[int, int], multiprocessors: int, total_bytes: int) -> Card:
    """The known card that is most like one: capability, then multiprocessors, then memory."""

    def distance(card: Card) -> tuple[bool, bool, int, int]:
        return (
            card.compute_capability[0] != capability[0],
            card.compute_capability != capability,
            abs(card.multiprocessors - multiprocessors),
            abs(card.total_bytes - total_bytes),
        )

    return min(known_cards().values(), key=distance)


def threads_per_multiprocessor(capability: tuple[int, int]) -> int:
    """The most threads that a multiprocessor holds (CUDA C++ Programming Guide, table of
    technical specifications per compute capability)."""
    if capability == (7, 5):
        return 1024
    return 1536 if capability[0] in (8, 12) and capability != (8, 0) else 2048


def has_bf16(capability: tuple[int, int]) -> bool:
    """True where bf16 is the hardware's, and so flash attention is there too."""
    return capability >= FLASH_FROM


def has_tensor_cores(title: str, capability: tuple[int, int]) -> bool:
    """True from Volta on, but for the GTX 16 series."""
    return capability >= TENSOR_CORES_FROM and not re.search(r"\bGTX\s*16", title, re.IGNORECASE)


def was_recorded(capability: tuple[int, int]) -> bool:
    """True if a card of that capability has recorded what it allocates."""
    return any(
        card.recorded and card.compute_capability == capability for card in known_cards().values()
    )


def card_notes(target: Target, *, half: bool) -> list[str]:
    """What is to be known of a card before its numbers are believed; `half`: fp16 is among them."""
    capability, notes = target.compute_capability, []
    dotted = f"{capability[0]}.{capability[1]}"
    if not was_recorded(capability):
        notes.append(
            f"No card of compute capability {dotted} has been recorded: predicted from PyTorch's "
            "source, and of convolutions from what cuDNN says of a described card."
        )
    if capability < BUILT_FROM:
        notes.append(
            f"PyTorch's usual builds (CUDA 12.8 and later) have no kernels for {dotted}: "
            f"{target.title} needs one for CUDA 12.6. The cuDNN that is asked here no longer knows "
            "the card either: workspaces of its convolutions are not its own."
        )
    if half and not has_tensor_cores(target.title, capability):
        notes.append(
            f"{target.title} has no tensor cores: fp16 saves memory and hardly time. Users of "
            "such cards report NaN in fp16: watch the loss, else take --precision fp32."
        )
    return notes
