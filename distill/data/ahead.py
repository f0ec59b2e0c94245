"""Doing work ahead in threads, and handing the results on in order.

Threads, not processes: what is done here (gathering rows, page faults of a memory-mapped file,
PIL's decoding) lets go of the interpreter's lock, and threads need no shared memory, survive no
kill, and never meet a forked CUDA context. Results can't depend on how many there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Results that wait for each thread: enough to hide a slow one, few enough to bound memory."""


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """`map(work, items)`, done by that many threads ahead; 0 does each when it is asked for."""
    if workers == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="data") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
