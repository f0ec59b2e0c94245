"""What a probe was asked for, as one value. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.cards import assumed_budget, budget, is_native
from bench.measure.card import CardFacts
from distill.candidate import Allocator
from distill.profile import Budget, Target
from distill.recipe import Recipe


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

        A larger card imitates a smaller one, whose context and desktop are not the larger one's.
        """
        assumed = assumed_budget(self.vram_gib)
        if self.card is None or self.device != "cuda":
            return assumed
        native = is_native(self.card, self.vram_gib)
        known = native and self.card.others_bytes is not None
        return budget(
            self.vram_gib,
            card_total_bytes=self.card.total_bytes if native else assumed.card_total_bytes,
            card_total_source="measured" if native else "assumed",
            context_bytes=self.card.context_bytes if native else assumed.context_bytes,
            context_source="measured" if native else "assumed",
            desktop_bytes=(self.card.others_bytes or 0) if known else 0,
            desktop_source="measured" if known else "assumed",
        )

    @property
    def cap(self) -> str | None:
        """How readings call their cap; `None` where nothing is capped."""
        if self.card is None or self.device != "cuda":
            return None
        native = is_native(self.card, self.vram_gib)
        return "native" if native else f"enforced on {self.card.name}"
