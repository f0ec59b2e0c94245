"""The known names nearest to one that is not known: one way for every name a person may give."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMED = 3
LEAST_LIKE = 0.55
"""Of difflib's ratio: one slip in four letters passes, another word does not."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean a, b or c?` with the nearest of the known names; empty where none is near.

    Those that begin with the name come first, then those most like it, whatever their capitals.
    """
    found = nearest_names(name, known)
    if not found:
        return ""
    *others, last = found
    return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"


def nearest_names(name: str, known: Iterable[str], most: int = MOST_NAMED) -> list[str]:
    """The nearest of the known names, the nearest first."""
    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(one.casefold(), one)
    short = name.casefold().strip()
    if not short:
        return []
    if short in folded:
        return [folded[short]]
    begun = sorted((one for one in folded if one.startswith(short)), key=len)
    close = get_close_matches(short, folded.keys() - {*begun}, most, LEAST_LIKE)
    return [folded[one] for one in (*begun, *close)][:most]
