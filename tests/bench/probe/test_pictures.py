"""Pictures of a grid: what is chosen, what does not fit, and numbers that can be read."""

from dataclasses import replace

import pytest

from bench.probe.grid_pictures import BEYOND, breakdown_figure, heatmap_figure
from bench.probe.trial_pictures import speed_figure
from distill.report.figure import contrasting
from tests.bench.conftest import predicted_timing
from tests.bench.probe.test_grid_tables import choice_of


def texts_of(axes) -> dict[str, str]:
    """What is written on the cells of a panel, and in which colour."""
    return {text.get_text(): text.get_color() for text in axes.texts}


def hatched(axes) -> list[tuple[float, float]]:
    return [patch.get_xy() for patch in axes.patches if patch.get_hatch() == BEYOND["hatch"]]


@pytest.fixture
def grid(make_trial, budget):
    """One configuration at three batches: little, nearly all, and a little more than is there."""
    limit = budget.limit_bytes // 2**20
    over = replace(make_trial(limit + 5, 64), outcome="oom")
    return [make_trial(limit // 20, 16), make_trial(limit - 100, 32), over]


def test_a_heatmap_tells_shares_hatches_what_does_not_fit_and_frames_the_choice(
    grid, budget
) -> None:
    figure = heatmap_figure(grid, [choice_of(grid[1])], budget, "small, predicted")
    panel, bar = figure.axes
    assert texts_of(panel) == {"5": "black", "98": "white", ">100": "black"}
    assert hatched(panel) == [(-0.5, 1.5)]
    frames = [p for p in panel.patches if p.get_linewidth() > 2 and p.get_xy() == (-0.5, 0.5)]
    assert len(frames) == 2
    assert "5,007 MiB (%)" in bar.get_ylabel() and bar.get_ylim() == (0, 100)
    assert "small, predicted" in figure.get_suptitle()


def test_a_configuration_that_cannot_be_is_not_called_too_large(grid, make_trial, budget) -> None:
    never = replace(make_trial(1, 1), outcome="skipped", reading=None, error="batch norm")
    panel, _ = heatmap_figure([never, *grid], [], budget, "small").axes
    assert "–" in texts_of(panel)
    assert hatched(panel) == [(-0.5, 2.5)]


def test_the_scale_of_small_models_ends_where_they_end(make_trial, budget) -> None:
    small = [make_trial(peak, batch) for peak, batch in ((40, 1), (400, 64))]
    _, bar = heatmap_figure(small, [], budget, "demo").axes
    assert bar.get_ylim() == (0, 10)


@pytest.mark.parametrize(("colour", "ink"), [((1, 1, 1), "black"), ((0, 0.1, 0.3, 1), "white")])
def test_ink_stands_out_from_its_cell(colour, ink) -> None:
    assert contrasting(colour) == ink


def test_coinciding_precisions_have_markers_that_leave_each_other_seen(make_trial, budget) -> None:
    both = [make_trial(1000, precision="fp16"), make_trial(1000, precision="bf16")]
    figure = speed_figure(both, [], budget, "two")
    faces = {dots.get_label(): len(dots.get_facecolor()) for dots in figure.axes[0].collections}
    assert faces["fp16"] == 0  # an empty square, in which the cross of bf16 is seen
    assert "bf16" in faces


@pytest.mark.parametrize(
    ("source", "title"),
    [("timed", "images/s (predicted)"), ("bound", "at most (roofline)"), ("measured", "measured")],
)
def test_the_axis_of_speeds_says_what_they_are(make_trial, budget, source, title) -> None:
    trial = make_trial(1000, measured=source == "measured")
    if source == "timed":
        trial = replace(trial, reading=replace(trial.reading, timing=predicted_timing(0.5)))
    assert title in speed_figure([trial], [], budget, "one").axes[0].get_ylabel()


def test_a_bar_ends_in_its_sum_and_share(grid, budget) -> None:
    choice = choice_of(grid[1])
    size = budget.limit_bytes // 2
    choice = choice.model_copy(update={"breakdown": choice.breakdown | {"weights": size}})
    axes = breakdown_figure([choice], budget, "one").axes[0]
    told = [text.get_text() for text in axes.texts]
    assert told == ["limit 5,007 MiB", "2,504 MiB, 50.0 %"]


def test_a_limit_that_is_far_away_leaves_small_bars_their_room(make_trial, budget) -> None:
    choice = choice_of(make_trial(40, measured=True))
    small = choice.model_copy(update={"breakdown": choice.breakdown | {"weights": 40 * 2**20}})
    axes = breakdown_figure([small], budget, "demo").axes[0]
    assert axes.get_xlim()[1] < 60
    assert axes.texts[0].get_text() == "limit 5,007 MiB: far beyond →"
