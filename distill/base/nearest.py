"""The known names nearest to one that is not known: one way for every name a person may give."""

from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

MOST_NAMED = 3
MOST_LOOKED_AT = 10_000
"""Of the names in a folder."""

LEAST_LIKE = 0.55
"""Of difflib's ratio: one slip in four letters passes, another word does not."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean a, b or c?` with the nearest of the known names; empty where none is near.

    Those that begin with the name come first, then those most like it, whatever their capitals.
    """
    return _asked(nearest_names(name, known))


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


def did_you_mean_beside(path: Path, *, folder: bool = False, prefix: str = "") -> str:
    """The same with what lies beside a path: files of its ending, or folders.

    `prefix` stands before each, as it is to be typed.
    """
    near: list[str] = []
    with suppress(OSError, ValueError):
        beside = islice(path.parent.iterdir(), MOST_LOOKED_AT)
        alike = (one.name for one in beside if folder or one.suffix == path.suffix)
        near = [name for name in nearest_names(path.name, alike) if _is(path, name, folder=folder)]
    return _asked([f"{prefix}{path.with_name(name)}" for name in near])


def _is(path: Path, name: str, *, folder: bool) -> bool:
    beside = path.with_name(name)
    return beside.is_dir() if folder else beside.is_file()


def _asked(names: list[str]) -> str:
    if not names:
        return ""
    *others, last = names
    return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"
