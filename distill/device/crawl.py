"""A computation on a CPU that crawls because others use the cores: noticed and told, once."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distill.base.repeating import repeating

LOOK_SECONDS = 15.0

CRAWLING_SHARE = 0.6
"""Of one core: a process that computes has at least that much where it does not have to wait."""


@contextmanager
def crawling_told(
    tell: Callable[[str], None], *, threads: int, every_seconds: float = LOOK_SECONDS
) -> Iterator[None]:
    """Tell once if this process gets little of a core while inside, and what may help."""
    began, computed, told = time.monotonic(), time.process_time(), False

    def look() -> None:
        nonlocal began, computed, told
        now, there = time.monotonic(), time.process_time()
        share = (there - computed) / (now - began)
        if share < CRAWLING_SHARE and not told:
            told = True
            tell(crawling_words(share, threads))
        began, computed = now, there

    with repeating(look, every_seconds=every_seconds):
        yield


def crawling_words(share: float, threads: int) -> str:
    """Why it is slow, and the cure."""
    load = f" (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    share_text = f"{100 * share:.0f} %"
    fewer = "; threads wait for one another then: --threads 1 may be quicker" if threads > 1 else ""
    return (
        f"slow: this run gets {share_text} of one core, as other programs use the cores{load} or "
        f"the disk is waited for{fewer}"
    )
