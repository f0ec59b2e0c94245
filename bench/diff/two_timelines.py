"""Two timelines, one over the other, to one scale: where B goes above A, and with whose bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from bench.diff.sides import DiffItem
from bench.predict.at_peak import OpBytes
from bench.predict.timeline import ROOM, draw_update
from bench.simulate.program.program import Program
from bench.simulate.replay import Replay
from distill.report.figure import new_figure
from distill.spec.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class PredictedAgain:
    """A configuration as it is predicted today. The replay has kept its timeline."""

    candidate: Candidate
    reserved_bytes: int
    reserved_max_bytes: int
    ops: Sequence[OpBytes]
    program: Program
    run: Replay

    def agrees_with(self, item: DiffItem) -> bool:
        """True if what is predicted today is what the item says, so that its ops are the item's."""
        return item.reserved_bytes in (self.reserved_bytes, self.reserved_max_bytes)


def two_timelines(a: PredictedAgain, b: PredictedAgain) -> Figure:
    """The picture: A above, B below, memory to the same scale, one legend for both."""
    figure = new_figure(10, 8.6)
    plots = figure.subplots(2, 1, sharey=True)
    highest = 0.0
    known: dict[str, Any] = {}
    for letter, one, axes in zip("AB", (a, b), plots, strict=True):
        highest = max(highest, draw_update(axes, one.program, one.run, None))
        candidate = one.candidate
        images = f"{candidate.micro_batch} × {candidate.accumulation} images"
        axes.set_title(
            f"{letter}: {candidate.student.title}, {candidate.label}, {images}, predicted",
            loc="left",
            pad=16,
            fontsize=10,
        )
        handles, words = axes.get_legend_handles_labels()
        known |= dict(zip(words, handles, strict=True))
    plots[0].set_ylim(0, ROOM * highest)
    figure.suptitle("Whose bytes an update holds, A over B", fontsize=11)
    figure.legend([*known.values()], [*known], loc="outside lower center", ncols=4, fontsize=8.5)
    return figure
