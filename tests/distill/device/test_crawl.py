"""A run that gets little of a core says so once, and one that computes says nothing."""

import time

from distill.device.crawl import crawling_told, crawling_words


def test_a_process_that_waits_for_cores_is_told_once() -> None:
    told: list[str] = []
    with crawling_told(told.append, threads=2, every_seconds=0.05):
        time.sleep(0.4)
    assert len(told) == 1
    assert "% of one core, as other programs use the cores (load" in told[0]
    assert "--threads 1 may be quicker" in told[0]
    assert "--threads" not in crawling_words(0.2, 1)


def test_a_process_that_computes_is_left_alone(monkeypatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("distill.device.crawl.time.process_time", lambda: 0.9 * next(clock))
    ticks = iter(range(1000))
    monkeypatch.setattr("distill.device.crawl.time.monotonic", lambda: next(ticks))
    told: list[str] = []
    with crawling_told(told.append, threads=1, every_seconds=0.01):
        time.sleep(0.2)
    assert told == []
