"""The search for the fastest safe cell of a stage, led by predictions. Pure.

The exhaustive grid would measure every cell. Here predictions bracket each family's largest
batch, a trial confirms it (or the next smaller one, where prediction and measurement disagree),
and what could still be faster is tried in the order of what it could reach at most. Times that
spread rule nothing out: the best one counts by its slow quartile, what a family can do by its fast
one. A quarter of the grid's trials is the most that is spent. What measures is injected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.probe.choose import verdict
from bench.trials.trial import Trial
from distill.base.units import MIB
from distill.spec.profile import Budget

SHARE_OF_GRID = 4
"""One trial in so many cells of the exhaustive grid, at most."""

DISTRUST = 0.15
"""A cell that is predicted to need more than this beyond the limit is not tried."""

KNOWN_DISTRUST = 0.02
"""The same, once the family's own error of prediction is known."""

UNEVEN = 0.15
"""How much better than the next larger one a batch size may use the card (tiles, waves)."""

FILLING = 0.3
"""How much better than the next smaller one: that, and more work to fill the card with."""

KINDRED = 0.1
"""How much better than another of its precision a family may use the card: the kernels are the same
but for what is run again."""

Measure = Callable[[Trial], Trial]
"""Measures a predicted trial's candidate."""


@dataclass(frozen=True)
class Searched:
    """The trials that were measured, and of each other cell the reason why it was not."""

    measured: tuple[Trial, ...]
    skipped: tuple[tuple[Trial, str], ...]


def search(
    cells: Sequence[Trial], budget: Budget, effective_batch: int, measure: Measure
) -> Searched:
    """Measure what may be the fastest safe cell of one stage.

    `cells` are the stage's predicted trials; those whose batch can't be chosen are skipped.
    """
    state = _State(cells, budget, effective_batch)
    quota = max(1, len(state.open) // SHARE_OF_GRID)
    while len(state.measured) < quota:
        following = state.following()
        if following is None:
            break
        state.learn(following, measure(following))
    return Searched(tuple(state.measured), tuple(state.reasons(cells)))


@dataclass
class _Family:
    """Cells that differ in the batch alone, by batch, and what is known of them."""

    cells: list[Trial]
    ratio: float | None = None
    ratio_is_bound: bool = False
    failed: int | None = None
    timed: dict[int, float] = field(default_factory=dict)

    def use_at_most(self, batch: int) -> float | None:
        """The share of the roofline's bound that a batch may reach, from those that were timed.

        A card is used the better the larger the batch, but for the unevenness of single sizes.
        """
        bound = {c.candidate.micro_batch: c.bound_images_per_second for c in self.cells}
        use = {there: rate / bound[there] for there, rate in self.timed.items() if bound[there]}
        from_above = [share * (1 + UNEVEN) for there, share in use.items() if there >= batch]
        if from_above:
            return min(from_above)
        return max((share * (1 + FILLING) for share in use.values()), default=None)


class _State:
    def __init__(self, cells: Sequence[Trial], budget: Budget, effective_batch: int) -> None:
        self.budget, self.effective_batch = budget, effective_batch
        self.measured: list[Trial] = []
        self.tried: set[int] = set()
        self.families: list[_Family] = []
        self.best = 0.0
        self.open = [cell for cell in cells if self._may_be_chosen(cell)]
        for cell in sorted(self.open, key=lambda cell: cell.candidate.micro_batch):
            self._family(cell).cells.append(cell)

    def following(self) -> Trial | None:
        """The cell to measure next: families without a time first, then what may be faster."""
        fresh = []
        for family in self.families:
            if not family.timed:
                candidates = [cell for cell in self._left(family) if self._expected_fits(cell)]
                top = max(candidates, key=lambda cell: cell.candidate.micro_batch, default=None)
                if top is not None and self._at_most(family, top) > self.best:
                    fresh.append((self._at_most(family, top), top))
        if fresh:
            return max(fresh, key=lambda pair: pair[0])[1]
        hopeful = [
            (self._at_most(family, cell), cell.candidate.micro_batch, cell)
            for family in self.families
            for cell in self._left(family)
        ]
        best = max(hopeful, key=lambda entry: entry[:2], default=None)
        return best[2] if best is not None and best[0] > self.best else None

    def learn(self, cell: Trial, trial: Trial) -> None:
        """Take in what a trial showed."""
        self.measured.append(trial)
        self.tried.add(id(cell))
        family, batch = self._family(cell), cell.candidate.micro_batch
        predicted = _needed(cell)
        if trial.outcome in ("oom", "thrash"):
            family.failed = min(batch, family.failed or batch)
            self._correct(family, self.budget.limit_bytes / predicted, bound=True)
            return
        judged = verdict(trial, self.budget, self.effective_batch)
        if trial.reading is not None and trial.reading.safe_bytes is not None:
            self._correct(family, trial.reading.safe_bytes / predicted, bound=False)
        if judged.eligible and trial.quartiles is not None:
            images = trial.candidate.effective_batch
            family.timed[batch] = images / trial.quartiles.lower_seconds
            self.best = max(self.best, images / trial.quartiles.upper_seconds)
        elif trial.outcome == "ok":
            family.failed = min(batch, family.failed or batch)

    def reasons(self, cells: Sequence[Trial]) -> list[tuple[Trial, str]]:
        """Of every cell that was not measured, why."""
        return [(cell, self._reason(cell)) for cell in cells if id(cell) not in self.tried]

    def _reason(self, cell: Trial) -> str:
        if not self._may_be_chosen(cell):
            return f"predicted: {verdict(cell, self.budget, self.effective_batch).words}"
        family = self._family(cell)
        if family.failed is not None and cell.candidate.micro_batch >= family.failed:
            return "larger than one that failed"
        if not self._may_fit(family, cell):
            over = -(-(_needed(cell) - self.budget.limit_bytes) // MIB)
            return f"predicted: {over:,} MiB too large"
        if self._at_most(family, cell) <= self.best:
            return f"can't be faster: at most {self._at_most(family, cell):,.0f} images/s"
        return "a quarter of the grid was tried; others promised more"

    def _may_be_chosen(self, cell: Trial) -> bool:
        """Tell whether its batch divides the update's; whether it fits is another matter."""
        batch = cell.candidate.micro_batch
        known = cell.reading is not None and cell.reading.safe_bytes is not None
        return known and batch <= self.effective_batch and self.effective_batch % batch == 0

    def _family(self, cell: Trial) -> _Family:
        for family in self.families:
            if not family.cells or family.cells[0].candidate.same_family(cell.candidate):
                return family
        self.families.append(_Family([]))
        return self.families[-1]

    def _kindred(self, cell: Trial) -> list[_Family]:
        """The families of the same precision."""
        precision = cell.candidate.precision
        return [f for f in self.families if f.cells[0].candidate.precision == precision]

    def _left(self, family: _Family) -> list[Trial]:
        return [
            cell
            for cell in family.cells
            if id(cell) not in self.tried
            and (family.failed is None or cell.candidate.micro_batch < family.failed)
            and self._may_fit(family, cell)
        ]

    def _expected_fits(self, cell: Trial) -> bool:
        return _needed(cell) * self._ratio(self._family(cell)) <= self.budget.limit_bytes

    def _may_fit(self, family: _Family, cell: Trial) -> bool:
        """Tell whether it fits, as far as the prediction can be trusted."""
        known = family.ratio is not None and not family.ratio_is_bound
        if known:
            needed = _needed(cell) * self._ratio(family) * (1 - KNOWN_DISTRUST)
        else:
            needed = _needed(cell) * (1 - DISTRUST)
        return needed <= self.budget.limit_bytes

    def _ratio(self, family: _Family) -> float:
        """Measured over predicted: the family's own, else the largest seen, else 1."""
        if family.ratio is not None:
            return family.ratio
        known = [f.ratio for f in self.families if f.ratio is not None and not f.ratio_is_bound]
        return max(known, default=1.0)

    def _correct(self, family: _Family, ratio: float, *, bound: bool) -> None:
        """Learn measured ÷ predicted bytes; of it a failure shows only a lower bound."""
        if bound and family.ratio is not None:
            ratio = max(ratio, family.ratio)
            bound = family.ratio_is_bound
        family.ratio, family.ratio_is_bound = ratio, bound

    def _at_most(self, family: _Family, cell: Trial) -> float:
        """The rate that a cell can be hoped to reach: its bound, less what its family can't use."""
        bound, batch = cell.bound_images_per_second, cell.candidate.micro_batch
        use = family.use_at_most(batch)
        if use is None:
            kin = [other.use_at_most(batch) for other in self._kindred(cell)]
            use = max(((1 + KINDRED) * known for known in kin if known is not None), default=None)
        return bound if use is None else min(bound, bound * use)


def _needed(cell: Trial) -> int:
    assert cell.reading is not None and cell.reading.safe_bytes is not None
    return cell.reading.safe_bytes
