"""The card's own time for an update, on a card that is imagined below PyTorch's calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from bench.measure import host_share
from bench.measure.host_share import count_launches, is_launch, read_card_seconds
from distill.step.step import Phase, no_mark

CYCLES_PER_SECOND = 2e9
CARD = torch.device("cuda")


@dataclass
class ImaginaryCard:
    """Two clocks: what the host has come to, and when the card will be done with its queue."""

    host_seconds: float = 0.0
    card_seconds: float = 0.0
    tells_time: bool = True

    def launch(self, host_seconds: float, card_seconds: float) -> None:
        self.host_seconds += host_seconds
        self.card_seconds = max(self.card_seconds, self.host_seconds) + card_seconds

    def synchronize(self, device: object = None) -> None:
        self.host_seconds = max(self.host_seconds, self.card_seconds)

    def sleep(self, cycles: int) -> None:
        self.launch(0.0, cycles / CYCLES_PER_SECOND)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """This card in the place of the driver's."""
        card = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.at = 0.0

            def record(self) -> None:
                self.at = max(card.card_seconds, card.host_seconds)

            def elapsed_time(self, later: "Event") -> float:
                return 1000 * (later.at - self.at) if card.tells_time else 0.0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "Event", Event)
            patch.setattr(torch.cuda, "_sleep", self.sleep)
            patch.setattr(torch.cuda, "synchronize", self.synchronize)
            yield


@dataclass
class ImaginaryStep:
    """Phases of launches; after the forward pass the host waits for the card, as a loss is read."""

    card: ImaginaryCard
    phases: dict[Phase, list[tuple[float, float]]]
    micro_batches: int = 1
    mark: Callable[[Phase], None] = field(default=no_mark)

    def train(self) -> None:
        for _ in range(self.micro_batches):
            for phase in ("prepare", "forward", "backward"):
                self._do(phase)
                if phase == "forward":
                    self.card.synchronize()
        self._do("update")

    def _do(self, phase: Phase) -> None:
        self.mark(phase)
        for host_seconds, card_seconds in self.phases[phase]:
            self.card.launch(host_seconds, card_seconds)

    @property
    def own_seconds(self) -> float:
        """What the card takes for it, if it never waits."""
        each = {name: sum(card for _, card in launches) for name, launches in self.phases.items()}
        return self.micro_batches * (sum(each.values()) - each["update"]) + each["update"]

    def seconds(self) -> float:
        """What one update takes, as the meter times it."""
        self.card.synchronize()
        began = self.card.host_seconds
        self.train()
        self.card.synchronize()
        return self.card.host_seconds - began


LAUNCHES = st.lists(st.tuples(st.floats(1e-6, 3e-5), st.floats(1e-6, 1e-4)), max_size=60)
NAMES: tuple[Phase, ...] = ("prepare", "forward", "backward", "update")


@settings(deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(NAMES, LAUNCHES)), st.integers(1, 4))
def test_the_cards_own_time_is_read_though_it_waits_for_the_host(phases, micro_batches) -> None:
    card = ImaginaryCard()
    step = ImaginaryStep(card, phases, micro_batches)
    with card.in_place():
        seconds = step.seconds()
        found = read_card_seconds(step, step.train, CARD, seconds / micro_batches)
    assert found == pytest.approx(step.own_seconds, rel=1e-6, abs=1e-9)
    assert step.mark is no_mark


def test_a_card_that_tells_no_time_is_not_measured() -> None:
    card = ImaginaryCard(tells_time=False)
    step = ImaginaryStep(card, {phase: [] for phase in NAMES})
    with card.in_place():
        assert read_card_seconds(step, step.train, CARD, 0.1) is None


def test_a_step_that_fails_is_not_left_marked() -> None:
    card = ImaginaryCard()
    step = ImaginaryStep(card, {})
    with card.in_place(), pytest.raises(KeyError):
        read_card_seconds(step, step.train, CARD, 0.1)
    assert step.mark is no_mark


def test_without_a_card_nothing_is_counted_and_nothing_run() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a driver here")
    counted = count_launches(lambda: pytest.fail("run"), CARD)
    assert counted == (None, "this PyTorch has no profiler for the card")


def test_memory_that_ends_as_launches_are_counted_is_the_profilers_affair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    # on a CPU the profiler starts as on a card, for what the host does
    there = SimpleNamespace(CUDA=ProfilerActivity.CPU)
    monkeypatch.setattr(host_share, "ProfilerActivity", there)
    assert count_launches(full, CARD) == (None, "the profiler: CUDA out of memory.")


def test_what_the_host_did_and_the_names_of_spans_are_no_launches() -> None:
    def event(device: DeviceType, *, is_name: bool = False) -> FunctionEvent:
        return FunctionEvent(
            1, "name", 0, 0, 1, device_type=device, is_user_annotation=is_name, use_device="cuda"
        )

    events = [
        event(DeviceType.CUDA),
        event(DeviceType.CPU),
        event(DeviceType.CUDA, is_name=True),
        event(DeviceType.CUDA),
    ]
    assert [is_launch(one) for one in events] == [True, False, False, True]
