"""The search, against an imaginary card: the choice of the whole grid for a quarter of its trials.

The card is drawn at random: how well it uses its arithmetic in each precision, what a launch
costs, batch sizes at which it is uneven, noise, memory that the prediction misses by up to a
tenth either way.
"""

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.card.budget import assumed_budget
from bench.card.targets import target_named
from bench.probe.choose import choose, verdict
from bench.probe.disagreements import disagreements
from bench.probe.grid import cells, families
from bench.probe.search import SHARE_OF_GRID, search
from bench.trials.trial import Measured, Trial
from distill.base.errors import NoSafeChoice
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from tests.bench.conftest import CONDITIONS, MIB, predicted_reading

EFFECTIVE = 128
BUDGET = assumed_budget(6)
FAMILIES = [
    f for f in families(load_recipe("cifar10"), target_named("rtx4050")) if f.stage == "teacher"
]
PINS = pins_for("fp16", (8, 9), deterministic=False, allocator="expandable")


@dataclass(frozen=True)
class Imaginary:
    """A card that measures at once, and always the same."""

    seed: int
    base_mib: int
    image_mib: float
    bias: float
    noise: float

    def predicted(self) -> list[Trial]:
        return [self._predicted(cell) for family in FAMILIES for cell in cells(family, EFFECTIVE)]

    def _predicted(self, cell) -> Trial:
        half, again = cell.precision != "fp32", cell.checkpointing
        image = self.image_mib * (0.55 if half else 1.0) * {0: 1.0, "cheap": 0.75, 1: 0.25}[again]
        peak = int((self.base_mib + image * cell.micro_batch) * MIB)
        rate = 230.0 * (2.0 if half else 1.0) * {0: 1.0, "cheap": 0.95, 1: 0.75}[again]
        bound = 1 / (1 / rate + 1 / (9000 * cell.micro_batch))
        reading = predicted_reading(peak, bound)
        outcome = "ok" if peak <= BUDGET.limit_bytes else "oom"
        return Trial(
            candidate=cell, conditions=CONDITIONS, pins=PINS, outcome=outcome, reading=reading
        )

    def measure(self, trial: Trial) -> Trial:
        cell = trial.candidate
        draw = random.Random(f"{self.seed} {cell.precision} {cell.checkpointing}")
        precision = random.Random(f"{self.seed} {cell.precision}")
        use = precision.uniform(0.3, 0.85) * draw.uniform(0.93, 1.0)
        half_filled = precision.uniform(0.5, 4.0)
        uneven = draw.choice((1, 2, 4, 8, 16, 32, 64, 128))
        here = random.Random(f"{self.seed} {cell}")
        rate = (trial.images_per_second or 0) * use * cell.micro_batch
        rate /= cell.micro_batch + half_filled
        rate *= here.uniform(1 - self.noise, 1 + self.noise)
        rate *= 0.88 if cell.micro_batch == uneven else 1.0
        peak = int((trial.reading.reserved_bytes or 0) * self.bias)
        if peak > BUDGET.limit_bytes:
            return replace(trial, outcome="oom", reading=None, error="full")
        reading = Measured(
            requested_bytes=peak,
            allocated_bytes=peak,
            reserved_bytes=peak,
            alloc_retries=0,
            step_seconds=(EFFECTIVE / rate,) * 3,
        )
        return replace(trial, outcome="ok", reading=reading)


CARDS = st.builds(
    Imaginary,
    seed=st.integers(0, 10**6),
    base_mib=st.integers(300, 2500),
    image_mib=st.floats(5, 400),
    bias=st.floats(0.9, 1.1),
    noise=st.floats(0, 0.01),
)


def best_of(trials) -> Trial | None:
    try:
        return choose(trials, ["teacher"], BUDGET, {"teacher": EFFECTIVE})["teacher"]
    except NoSafeChoice:
        return None


def both(card: Imaginary):
    """The search's choice and trials, and the choice of the exhaustive grid."""
    predicted = card.predicted()
    found = search(predicted, BUDGET, EFFECTIVE, card.measure)
    return found, best_of(found.measured), best_of([card.measure(t) for t in predicted])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(CARDS)
def test_the_same_choice_as_the_whole_grid_for_a_quarter_of_its_trials(card: Imaginary) -> None:
    found, chosen, exhaustive = both(card)
    may_be_chosen = [t for t in card.predicted() if EFFECTIVE % t.candidate.micro_batch == 0]
    assert len(found.measured) <= len(may_be_chosen) // SHARE_OF_GRID
    assert chosen == exhaustive


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(CARDS)
def test_every_cell_is_measured_once_or_told_why_not(card: Imaginary) -> None:
    predicted = card.predicted()
    found = search(predicted, BUDGET, EFFECTIVE, card.measure)
    measured = [t.candidate for t in found.measured]
    skipped = [t.candidate for t, _ in found.skipped]
    assert len(set(measured)) == len(measured)
    assert sorted(map(str, measured + skipped)) == sorted(str(t.candidate) for t in predicted)
    assert all(why for _, why in found.skipped)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(CARDS)
def test_nothing_larger_than_what_failed_is_tried(card: Imaginary) -> None:
    tried: list[Trial] = []

    def measure(cell: Trial) -> Trial:
        trial = card.measure(cell)
        for before in tried:
            same = replace(before.candidate, micro_batch=1, accumulation=1) == replace(
                cell.candidate, micro_batch=1, accumulation=1
            )
            if same and before.outcome == "oom":
                assert cell.candidate.micro_batch < before.candidate.micro_batch
        tried.append(trial)
        return trial

    search(card.predicted(), BUDGET, EFFECTIVE, measure)


def test_where_the_prediction_is_too_low_the_search_goes_down_and_says_so() -> None:
    card = Imaginary(seed=1, base_mib=1600, image_mib=100, bias=1.1, noise=0)
    found, chosen, _ = both(card)
    assert chosen is not None and verdict(chosen, BUDGET, EFFECTIVE).eligible
    told = disagreements(card.predicted(), found.measured)
    assert told and all(finding.breakdown for finding in told)
    peaks = [finding for finding in told if finding.measured_bytes is not None]
    assert peaks and all(f.error == pytest.approx(-0.0909, abs=1e-3) for f in peaks)
    assert any("MiB predicted, but oom" in f.words for f in told) or len(peaks) == len(told)


def test_a_card_that_agrees_leaves_no_finding() -> None:
    card = Imaginary(seed=1, base_mib=1600, image_mib=100, bias=1.005, noise=0)
    assert disagreements(card.predicted(), both(card)[0].measured) == []


def test_a_stage_in_which_everything_fails_ends_within_its_quarter() -> None:
    card = Imaginary(seed=1, base_mib=4800, image_mib=400, bias=1.1, noise=0)
    found, chosen, exhaustive = both(card)
    assert chosen is None and exhaustive is None and len(found.measured) <= 18


@pytest.mark.parametrize(
    ("seconds", "is_tried"), [((128 / 50,) * 3, False), ((128 / 70, 128 / 50, 128 / 30), True)]
)
def test_times_that_spread_rule_nothing_out(make_trial, budget, seconds, is_tried) -> None:
    """50 images/s at the median; the other family can reach 45 at most."""
    cells = [make_trial(500, 2**n, speed=1.0) for n in range(7)]
    fastest, other = make_trial(1000, 128), make_trial(900, 128, speed=45.0, precision="bf16")

    def measure(cell: Trial) -> Trial:
        timed = seconds if cell is fastest else (128 / 45,) * 3
        return replace(cell, reading=replace(make_trial(900, measured=True).reading,
                                             step_seconds=timed))  # fmt: skip

    found = search([*cells, fastest, other], budget, EFFECTIVE, measure)
    assert (other.candidate in [t.candidate for t in found.measured]) is is_tried
    if not is_tried:
        assert {t.candidate: why for t, why in found.skipped}[other.candidate] == (
            "can't be faster: at most 45 images/s"
        )
