"""Other users of the device: the room they leave before a run, their growth during it.

Looks, tells and refuses; ends no process. What NVML does not tell is said to be unknown.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distill.base.errors import RunFailed
from distill.base.repeating import repeating
from distill.base.units import MIB, bytes_text, mib
from distill.device.nvml import Holder, Holders

GROWN_BYTES = 128 * MIB
"""Growth of what others hold that is worth a line."""

EVERY_SECONDS = 5.0

SETTLING_LOOKS = 12
"""While this process still loads kernels of its own, growth is not held against others."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at the device. `outside_bytes` is in use beyond what is known to be our own.

    `exact` says that NVML told our own share; else that is PyTorch's segments, and what
    libraries load for us counts as outside.
    """

    outside_bytes: int
    exact: bool
    holders: Holders


def others(holders: Holders, own_pid: int) -> list[Holder]:
    """The processes that are not this one, the largest first."""
    found = [holder for holder in holders.processes or () if holder.pid != own_pid]
    return sorted(found, key=lambda holder: -(holder.used_bytes or 0))


def holders_words(holders: Holders, own_pid: int) -> str:
    """The processes that hold memory beside this one, in words."""
    if holders.processes is None:
        return f"who holds it is not known ({holders.reason})"
    found = others(holders, own_pid)
    if not found:
        return "no other process is listed (a container sees only its own)"
    return ", ".join(
        f"{holder.name or 'a process'} ({holder.pid}"
        + (")" if holder.used_bytes is None else f", {bytes_text(holder.used_bytes)})")
        for holder in found[:3]
    )


def check_room(
    free_bytes: int, needed_bytes: int, holders: Holders, *, force: bool, own_pid: int | None = None
) -> str | None:
    """Refuse a run that the memory left now can't hold; with `force` only say so.

    Raises `RunFailed` with who holds the rest: the cap keeps this process from growing, not
    others, and some drivers do not survive running out.
    """
    if free_bytes >= needed_bytes:
        return None
    words = (
        f"{mib(needed_bytes)} MiB are needed and {mib(free_bytes)} are free now; "
        f"{holders_words(holders, os.getpid() if own_pid is None else own_pid)}."
    )
    if force:
        return words
    raise RunFailed(f"{words} End what is not needed, or insist with --force.")


class Watch:
    """Notices that others grow, by `GROWN_BYTES` at a time."""

    def __init__(self, own_pid: int) -> None:
        self._own_pid = own_pid
        self._lowest: int | None = None
        self._looks = 0

    def notice(self, look: Look) -> str | None:
        """A line when more is in use by others than was at the least; then from there on."""
        self._looks += 1
        settling = not look.exact and self._looks <= SETTLING_LOOKS
        if self._lowest is None or settling or look.outside_bytes <= self._lowest:
            self._lowest = look.outside_bytes
            return None
        grown = look.outside_bytes - self._lowest
        if grown < GROWN_BYTES:
            return None
        self._lowest = look.outside_bytes
        return (
            f"memory outside this training grew by {mib(grown)} MiB: "
            f"{holders_words(look.holders, self._own_pid)}"
        )


@contextlib.contextmanager
def watching(
    look: Callable[[], Look | None],
    tell: Callable[[str], None],
    *,
    every_seconds: float = EVERY_SECONDS,
) -> Iterator[None]:
    """Look again and again from a thread while inside; `look` gives `None` for nothing seen."""
    watch = Watch(os.getpid())

    def ask() -> None:
        seen = look()
        line = None if seen is None else watch.notice(seen)
        if line is not None:
            tell(line)

    with repeating(ask, every_seconds=every_seconds):
        yield
