"""A limit of memory as people write it. No torch, no pytest."""

import re

from distill.base.errors import UserError
from distill.base.units import GIB, KIB, MIB

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
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        return limit
    found = SIZE.fullmatch(limit) if isinstance(limit, str) else None
    if found is None or found[2].lower() not in UNITS or not float(found[1]):
        raise UserError(f'{limit!r} is no limit. Give a size such as "5 GiB", or bytes.')
    return int(float(found[1]) * UNITS[found[2].lower()])
