"""Work among processes: every result once, and the end of a worker told in one sentence."""

import os
import signal
import time

import pytest

from distill.base.errors import Interrupted, RunFailed, UserError
from distill.base.worker_pool import map_in_processes


def nothing() -> None:
    """Prepare nothing."""


def square(number: int) -> int:
    return number * number


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def refuse(number: int) -> None:
    raise UserError(f"{number} is refused.")


def share_out(work, items, processes=2):
    found = map_in_processes(work, items, processes=processes, prepare=nothing, kept="It is kept.")
    return dict(found)


def test_each_item_has_its_result_at_its_place() -> None:
    assert share_out(square, range(7), 3) == {n: n * n for n in range(7)}
    assert share_out(square, []) == {}


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (signal.SIGTERM, Interrupted, "Stopped by SIGTERM, sent to a process.*It is kept"),
        (signal.SIGINT, Interrupted, "Stopped by SIGINT, sent to a process"),
        (signal.SIGKILL, RunFailed, "was ended by SIGKILL: the computer's memory may be full"),
    ],
)
def test_a_worker_that_ends_is_one_sentence(number: int, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        share_out(end_by, [number, number])


def test_what_the_work_raises_is_raised_with_where_it_came_from() -> None:
    with pytest.raises(UserError, match="5 is refused") as raised:
        share_out(refuse, [5])
    assert "in refuse" in raised.value.__notes__[0]
