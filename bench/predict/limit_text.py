"""A memory limit as text, `5 GiB` or `512 MiB`, in bytes. Loads neither torch nor pytest."""

import re

from distill.base.errors import UserError, in_short
from distill.base.units import GIB, KIB, MIB
from distill.spec.bounds import MOST_VRAM_GIB

UNITS = {
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def limit_in_bytes(limit: object) -> int:
    """A size as bytes: `"5 GiB"`, `"512 MiB"`, `"4.5 GB"`, or a number of bytes.

    Raises `UserError` for what is none.
    """
    size_bytes = _asked_bytes(limit)
    if size_bytes is None or size_bytes < 1:
        shown = in_short(repr(limit))
        raise UserError(f'{shown} is no limit. Give a size such as "5 GiB", or bytes.')
    if size_bytes > MOST_VRAM_GIB * GIB:
        most = f"{MOST_VRAM_GIB:,} GiB, the most that is taken"
        raise UserError(f"A limit of {in_short(limit)} is above {most}.")
    return int(size_bytes)


def _asked_bytes(limit: object) -> float | None:
    """As many bytes as are meant, infinite for too many digits; `None` for what is no size."""
    if isinstance(limit, int) and not isinstance(limit, bool):
        return limit
    found = SIZE.fullmatch(limit) if isinstance(limit, str) else None
    if found is None or found[2].lower() not in UNITS:
        return None
    return float(found[1]) * UNITS[found[2].lower()]
