"""The budget: what is left for PyTorch of a card. Reads no device."""

from distill.base.errors import UserError
from distill.base.units import GIB, MIB, mib
from distill.spec.profile import Budget, Target

SHARE_SEEN = 0.94
"""What an RTX 4050 Laptop shows PyTorch on Linux of the size on its box, rounded down."""

LEAST_SHARE_SEEN = 0.9
"""What is shown of the box at least: 0.91 of a T4, whose memory checks itself."""

CONTEXT_BYTES = 512 * MIB
"""Assumed until measured: contexts of 0.3 to 0.6 GiB are reported for lazily loading CUDA."""

MARGIN_BYTES = 256 * MIB
"""Assumed: room for what no prediction knows, above all cuDNN's convolution workspaces."""


def assumed_budget(nominal_gib: float, target: Target | None = None) -> Budget:
    """The budget on a card of which only the size on the box is known, and what it has at most.

    Raises `UserError` when nothing is left.
    """
    total_bytes = int(SHARE_SEEN * nominal_gib * GIB) // MIB * MIB
    if target is not None:
        total_bytes = min(total_bytes, target.total_bytes)
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


def limit_on(target: Target) -> int:
    """Bytes for PyTorch of the whole card, once context and margin, both assumed, are taken off.

    0 where they take all.
    """
    return max(0, target.total_bytes - CONTEXT_BYTES - MARGIN_BYTES)


def budget_line(budget: Budget) -> str:
    """The arithmetic of the limit, each number with its source."""
    return (
        f"Budget: {mib(budget.card_total_bytes)} MiB card ({budget.card_total_source}) "
        f"− {mib(budget.context_bytes)} context ({budget.context_source}) "
        f"− {mib(budget.desktop_bytes)} desktop ({budget.desktop_source}) "
        f"− {mib(budget.margin_bytes)} margin ({budget.margin_source}) "
        f"= {mib(budget.limit_bytes)} MiB for PyTorch"
    )
