"""Claims of the original write-up, each figure by its id. Reads; judges nothing.

Its GB are read as GiB and its MB as MiB: the reading that is kinder to it.
"""

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Claim:
    """One figure. `value` is a number, or (low, high)."""

    id: str
    subject: str
    value: float | tuple[float, float]
    unit: str

    @property
    def middle(self) -> float:
        """The figure itself, or the middle of a range."""
        if isinstance(self.value, tuple):
            return sum(self.value) / 2
        return self.value


def load_claims() -> list[Claim]:
    """All figures, in the order of the file."""
    text = (resources.files("bench.predict") / "claims.json").read_text(encoding="utf-8")
    return [
        Claim(
            id=raw["id"],
            subject=raw["subject"],
            value=tuple(raw["value"]) if isinstance(raw["value"], list) else raw["value"],
            unit=raw["unit"],
        )
        for raw in json.loads(text)["claims"]
    ]
