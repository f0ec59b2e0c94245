"""What was asked for: the card that is meant, and a probe's request as one value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.card.detect import CardFacts, ask_card
from bench.card.targets import assumed_budget, budget, is_native, target_like, target_named
from distill.base.errors import NoDeviceError
from distill.spec.candidate import Allocator
from distill.spec.profile import Budget, Target
from distill.spec.recipe import Recipe


def target_asked(name: str) -> Target:
    """A card by name or file, or with `auto` the one that is here.

    Raises `NoDeviceError` where there is none.
    """
    if name != "auto":
        return target_named(name)
    card = ask_card()
    if card is None:
        raise NoDeviceError("--target auto needs a GPU, and none is here. Name a card instead.")
    return target_like(card)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `bench probe` was asked for. `card` is the device that is there, if any."""

    recipe: Recipe
    vram_gib: float
    target: Target
    card: CardFacts | None
    allocator: Allocator
    device: Literal["cuda", "cpu", "predict"]
    name: str
    journal: Path
    force: bool = False

    @property
    def budget(self) -> Budget:
        """The limit: from the card that is measured on, if that is no larger than asked for.

        All that is in use there beside the context counts as the desktop, so that the limit is
        what is free now less the margin. A larger card imitates a smaller one, whose context and
        desktop are not the larger one's.
        """
        card = self.card
        if card is None or self.device != "cuda" or not is_native(card, self.vram_gib):
            return assumed_budget(self.vram_gib)
        return budget(
            self.vram_gib,
            card_total_bytes=card.total_bytes,
            card_total_source="measured",
            context_bytes=card.context_bytes,
            context_source="measured",
            desktop_bytes=max(0, card.total_bytes - card.context_bytes - card.free_bytes),
            desktop_source="measured",
        )

    @property
    def cap(self) -> str | None:
        """How readings call their cap; `None` where nothing is capped."""
        if self.card is None or self.device != "cuda":
            return None
        native = is_native(self.card, self.vram_gib)
        return "native" if native else f"enforced on {self.card.name}"
