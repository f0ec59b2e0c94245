"""The timeline of an update: its labels leave free what they name."""

import pytest
from matplotlib.text import Text

from bench.card.targets import target_named
from bench.predict.timeline import timeline_figure
from bench.simulate.predictor import Predictor
from distill.base.units import MIB
from distill.spec.candidate import Candidate


@pytest.mark.parametrize("times", [1.1, 20])
def test_the_label_stands_above_the_peak_and_the_limit(
    small_candidate: Candidate, times: float
) -> None:
    program, run = Predictor(target_named("rtx4050"), "expandable").run(
        small_candidate, timeline=True
    )
    limit_bytes = round(times * run.reserved)
    figure = timeline_figure(program, run, limit_bytes, "small, predicted")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (label,) = [text for text in axes.texts if text.get_text().startswith("peak")]
    box = Text.get_window_extent(label).transformed(axes.transData.inverted())
    drawn = [run.reserved / MIB]
    if times < 2:  # of a limit that is far above only words tell
        drawn.append(limit_bytes / MIB)
    assert max(drawn) < box.y0 and box.y1 < axes.get_ylim()[1]
    left, right = axes.get_xlim()
    assert left < box.x0 and box.x1 < right
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("above the picture" in words for words in told) == (times > 2)
