"""Bytes, rates and durations as text: the one place where a number gets a unit.

Nothing here rounds a value that is stored; it only prints.
"""

KIB = 2**10
MIB = 2**20
GIB = 2**30


def mib(size_bytes: int | float | None) -> str:
    """Bytes as whole MiB with thousands separated, rounded up so that a peak never looks smaller.

    `None` (not measured) prints as a dash.
    """
    if size_bytes is None:
        return "–"
    whole = -(-int(size_bytes) // MIB)
    return f"{whole:,}"


def bytes_text(size_bytes: int | float | None) -> str:
    """Bytes in the largest unit that keeps them readable: `512 B`, `8.1 MiB`, `5.64 GiB`."""
    if size_bytes is None:
        return "–"
    size = abs(size_bytes)
    sign = "-" if size_bytes < 0 else ""
    if size < KIB:
        return f"{sign}{size:.0f} B"
    if size < MIB:
        return f"{sign}{size / KIB:.0f} KiB"
    if size < GIB:
        return f"{sign}{size / MIB:.1f} MiB"
    return f"{sign}{size / GIB:.2f} GiB"


def count_text(count: int) -> str:
    """A number of parameters: `85.80 M`, `21.7 k`, `512`."""
    if count >= 1_000_000:
        return f"{count / 1e6:.2f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)


def percent(part: float, whole: float) -> str:
    """`part` of `whole` with one decimal, or a dash when there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def duration(seconds: float | None) -> str:
    """Seconds as `0.42 s`, `41 s`, `3 min 05 s` or `2 h 10 min`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(seconds: float) -> str:
    """The seconds of something short: `1,940 ms`, `4.2 ms`."""
    return f"{1000 * seconds:,.{0 if seconds >= 0.01 else 1}f} ms"


def rate(per_second: float | None) -> str:
    """Images per second with three significant digits."""
    if per_second is None:
        return "–"
    if per_second >= 100:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.1 else f"{per_second:.2g}"
