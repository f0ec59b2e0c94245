"""What is said of a torch that no card has recorded with."""

import re

import pytest
import torch

from bench.card.releases import TRIED, release_notes
from bench.predict.any_step import Step, predict_step
from tests.conftest import ROOT


@pytest.mark.parametrize("installed", ["2.11.0", "2.11.0+cu130", "2.11.1+cpu"])
def test_the_release_of_the_recordings_is_worth_no_line(installed: str) -> None:
    assert release_notes(installed) == []


def test_the_locked_torch_is_that_of_the_recordings() -> None:
    assert release_notes() == []


def test_a_release_that_was_tried_says_what_is_known_of_it() -> None:
    (note,) = release_notes("2.15.0+cu132")
    assert "2.15.0+cu132 is installed, predicted by its own rules" in note
    assert "2 MiB less than is predicted" in note


@pytest.mark.parametrize("installed", ["2.99.1", "3.0.0a0+git1234567", "2.110.0"])
def test_a_release_that_was_not_tried_is_said_to_be_that(installed: str) -> None:
    (note,) = release_notes(installed)
    assert "was not tried: predicted by the rules of 2.15" in note


def test_every_release_with_words_has_its_row_in_the_page() -> None:
    page = (ROOT / "docs/prediction.md").read_text(encoding="utf-8")
    for minor in TRIED:
        assert re.search(rf"\n\| {re.escape(minor)}\.\d+ \|", page)


def _sum(device: torch.device) -> Step:
    numbers = torch.ones(8, device=device, requires_grad=True)
    return lambda: numbers.sum().backward()


def test_a_step_of_ones_own_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.card.releases.version", lambda _: "2.99.0")
    with pytest.warns(UserWarning, match="2.99.0 is installed"):
        predict_step(_sum)
