"""The progress of long work: a bar on a terminal, a line at start and end elsewhere."""

import sys
import time
from types import TracebackType
from typing import Never

from tqdm import tqdm

from distill.base.units import duration


class Progress:
    """Counts pieces of work. Prints to stderr."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.began = time.perf_counter()
        self.interactive = sys.stderr.isatty()
        self.bar: tqdm[Never] = tqdm(
            total=total, desc=f"  {what}", unit=unit, disable=not self.interactive, leave=False
        )

    def __enter__(self) -> "Progress":
        if not self.interactive:
            print(f"  {self.what}: {self.total} {self.unit} …", file=sys.stderr, flush=True)
        return self

    def advance(self, by: int = 1) -> None:
        """So many more are done."""
        self.done += by
        self.bar.update(by)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        took = duration(time.perf_counter() - self.began)
        print(f"  {self.what}: {self.done} {self.unit} in {took}", file=sys.stderr, flush=True)
