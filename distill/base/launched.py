"""Processes that a launcher such as `torchrun` starts together: one of them speaks."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from distill.base.errors import DistillError, UserError
from distill.base.signals import signals_untold

STARTED_BY_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets, and other launchers after it (torch/distributed/run.py)."""

TELLING_SECONDS = 2.0
"""A launcher ends all processes when one has ended: who tells why must be first."""


def launched_processes() -> int:
    """How many processes a launcher started together, 1 without one.

    Raises `UserError` where what it set makes no sense.
    """
    if not all(name in os.environ for name in STARTED_BY_LAUNCHER):
        return 1
    words = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    numbers = [int(word) if word.isdecimal() else -1 for word in words.values()]
    if min(numbers) < 0 or max(numbers[:2]) >= numbers[2]:
        told = ", ".join(f"{name} {word!r}" for name, word in words.items())
        raise UserError(f"The environment says {told}. Unset them, or start with torchrun.")
    return numbers[2]


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing while inside: no result, no line for the person who watches, no signal."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        signals_untold(),
    ):
        yield


@contextmanager
def told_by_one_of_a_machine() -> Iterator[None]:
    """Let one process of each machine say what is refused before they know of each other."""
    if launched_processes() == 1 or os.environ["LOCAL_RANK"] == "0":
        yield
        return
    try:
        with silent():
            yield
    except DistillError as error:
        time.sleep(TELLING_SECONDS)
        raise SystemExit(error.exit_code) from error


def told_to_launcher(sentence: str) -> None:
    """Leave the sentence where `torchrun` looks for the reason of an end, with which it ends too.

    The form is that of torch/distributed/elastic/multiprocessing/errors (torch 2.11).
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with suppress(OSError):
            Path(path).write_text(json.dumps({"message": sentence, "timestamp": int(time.time())}))
