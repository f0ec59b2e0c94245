"""Who else holds the device's memory: told before a run, noticed during it."""

import time

import pytest

from distill.base.errors import RunFailed
from distill.base.units import MIB
from distill.device.nvml import Holder, Holders
from distill.device.watch import SETTLING_LOOKS, Look, Watch, check_room, holders_words, watching

BROWSER = Holder(pid=7, name="firefox", used_bytes=700 * MIB)
ALONE = Holders(processes=(Holder(pid=1, name="python", used_bytes=5),))
SHARED = Holders(processes=(*(ALONE.processes or ()), BROWSER))
UNKNOWN = Holders(processes=None, reason="NVML: Not Supported")


def test_room_that_suffices_is_silent() -> None:
    assert check_room(100, 100, SHARED, force=False, own_pid=1) is None


def test_too_little_room_names_who_holds_it_and_the_cure() -> None:
    with pytest.raises(
        RunFailed, match=r"4,000 MiB are needed and 3,000 .* firefox \(7, .*--force"
    ):
        check_room(3000 * MIB, 4000 * MIB, SHARED, force=False, own_pid=1)


def test_with_force_it_is_only_said() -> None:
    words = check_room(3000 * MIB, 4000 * MIB, UNKNOWN, force=True, own_pid=1)
    assert words is not None and "not known (NVML: Not Supported)" in words


def test_a_holder_without_a_size_gets_none() -> None:
    nameless = Holders(processes=(Holder(pid=9, name=None, used_bytes=None),))
    assert holders_words(nameless, 1) == "a process (9)"
    assert "no other process is listed" in holders_words(ALONE, 1)


def look(mib: int, *, exact: bool = True) -> Look:
    return Look(outside_bytes=mib * MIB, exact=exact, holders=SHARED)


def test_growth_of_others_is_told_once_and_again_only_when_it_goes_on() -> None:
    watch = Watch(1)
    told = [watch.notice(look(mib)) for mib in (500, 520, 700, 710, 900)]
    assert [line is not None for line in told] == [False, False, True, False, True]
    assert told[2] is not None and "200 MiB: firefox (7" in told[2]


def test_what_shrinks_sets_a_new_measure() -> None:
    watch = Watch(1)
    assert [watch.notice(look(mib)) is None for mib in (900, 500, 640)] == [True, True, False]


def test_while_own_libraries_load_nobody_is_accused() -> None:
    watch = Watch(1)
    for number in range(SETTLING_LOOKS):
        assert watch.notice(look(100 * number, exact=False)) is None
    assert watch.notice(look(100 * SETTLING_LOOKS + 200, exact=False)) is not None


def test_a_thread_looks_until_the_run_is_over() -> None:
    sizes, told = iter(range(100, 10**6, 200)), []
    with watching(lambda: look(next(sizes)), told.append, every_seconds=0.01):
        deadline = time.monotonic() + 10
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(told)
    assert count >= 2
    time.sleep(0.05)
    assert len(told) == count
