"""The two constants of a machine that no data sheet has, and where they are from.

Matrix products reach a part of the peak that the maker gives, and the host takes its time to have
the card do one thing. `bench evidence` and `bench probe` measure both on a card; elsewhere those of
another machine are assumed.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, Len

MICROSECOND = 1e-6


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`product_efficiency` is the share of the peak FLOP/s that matrix products reach.

    `launch_seconds` is what the host takes to have the card do one op that Python asks for; one
    that autograd's engine asks for takes `ENGINE_SHARE` of it (`bench/simulate/program`).
    `machine` is the one that both were read on.
    """

    product_efficiency: Annotated[float, Ge(0.001), Le(10)]
    launch_seconds: Annotated[float, Ge(1e-8), Le(1)]
    source: Literal["measured", "assumed"]
    machine: Annotated[str, Len(1, 120)]

    @property
    def words(self) -> str:
        """Both constants and where they are from, in one line."""
        own = "measured on" if self.source == "measured" else "assumed, as on"
        return (
            f"products at {100 * self.product_efficiency:.0f} % of the peak, "
            f"{self.launch_seconds / MICROSECOND:.0f} µs a launch: {own} {self.machine}"
        )


ASSUMED = Calibration(
    product_efficiency=0.42,
    launch_seconds=68 * MICROSECOND,
    source="assumed",
    machine="an NVIDIA H200 with 16 cores",
)
"""Fitted to the trials of results/evidence/h200/trials.jsonl.gz (docs/prediction.md, "Times")."""
