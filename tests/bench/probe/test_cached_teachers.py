"""A probe that may let the teacher go: which cells there are, what is timed, what is chosen."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bench.card.targets import target_named
from bench.measure.isolate import Ended
from bench.probe.choose import SURELY, choose
from bench.probe.grid import cached_views, families, teacher_variants
from bench.probe.make_profile import Probed, make_profile
from bench.probe.measure_grid import measure_grid
from bench.probe.probe_plan import plan_probe
from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.errors import UserError
from distill.base.signals import StopRequest
from distill.spec.recipe import load_recipe
from distill.spec.stage_time import stage_time
from distill.spec.step_times import CachingPass
from tests.bench.conftest import predicted_timing
from tests.bench.probe import killed_probe

RECIPE, TARGET = load_recipe("cifar10"), target_named("rtx4050")
MIB = 2**20


def modes(asked, views: int | None = None) -> set[tuple[str, str]]:
    variants = teacher_variants(RECIPE, asked, views)
    return {(c.stage, c.teacher_logits) for c in families(RECIPE, TARGET, variants)}


def test_the_grid_holds_the_teachers_that_were_asked_for() -> None:
    online = {("teacher", "online"), ("assistant", "online"), ("student", "online")}
    cached = {("teacher", "online"), ("assistant", "cached"), ("student", "cached")}
    assert modes(None) == modes("online") == online
    assert modes("cached") == cached and modes("auto") == online | cached
    assert families(RECIPE, TARGET, teacher_variants(RECIPE, None, None)) == families(
        RECIPE, TARGET
    )


def test_views_are_the_recipes_unless_asked_for_and_no_more_than_epochs() -> None:
    assert cached_views(teacher_variants(RECIPE, "online", None)) == {}
    assert set(cached_views(teacher_variants(RECIPE, "auto", None)).values()) == {8}
    assert set(cached_views(teacher_variants(RECIPE, "cached", 3)).values()) == {3}
    assert set(cached_views(teacher_variants(RECIPE, "cached", 1000)).values()) == {100}
    with pytest.raises(UserError, match="leave it out"):
        teacher_variants(RECIPE, "online", 3)


def test_a_cached_teacher_is_chosen_where_the_stage_is_shorter_with_the_caching(
    make_trial, budget
) -> None:
    online = make_trial(3000, 32, 100.0)
    cached = make_trial(2000, 32, 200.0, teacher_logits="cached")
    caching = CachingPass(peak_bytes=700 * MIB, images_per_second=250.0)
    cached = replace(cached, reading=replace(cached.reading, caching=caching))

    def chosen(share: float) -> Trial:
        shares = {"teacher": share}
        return choose([online, cached], ["teacher"], budget, {"teacher": 128}, shares)["teacher"]

    level = (1 / 100 / (1 + SURELY) - 1 / 200) * 250
    assert chosen(0.08) == chosen(level - 0.01) == cached
    assert chosen(level + 0.01) == chosen(2.0) == online
    too_large = CachingPass(peak_bytes=6000 * MIB, images_per_second=250.0)
    cached = replace(cached, reading=replace(cached.reading, caching=too_large))
    assert chosen(0.08) == online


def test_on_a_card_the_pass_is_a_trial_of_its_own_and_enters_choice_and_hours(
    tmp_path: Path,
) -> None:
    """An imaginary card whose step is twice as fast with the teacher gone."""
    asked = []

    def run_on_card(job_path: Path, result_path: Path, limit: float) -> Ended:
        candidate = json.loads(job_path.read_text())["candidate"]
        asked.append(candidate["teacher_logits"])
        ended = killed_probe.run_on_card(job_path, result_path, limit)
        document = json.loads(result_path.read_text())
        if document["outcome"] == "ok":
            faster = {"online": 1, "cached": 2, "caching": 4}[candidate["teacher_logits"]]
            images = candidate["micro_batch"] * candidate["accumulation"]
            seconds = document["reading"]["step_seconds"][0] / faster * images / 128
            document["reading"]["step_seconds"] = [seconds]
            result_path.write_text(json.dumps(document))
        return ended

    plan = plan_probe(
        recipe=RECIPE, vram_gib=6, target=TARGET, card=killed_probe.CARD, allocator="expandable",
        device="cuda", name="here", journal=tmp_path / "trials.jsonl",
        variants=teacher_variants(RECIPE, "auto", 10),
    )  # fmt: skip
    grid = []
    for trial in killed_probe.predicted():
        timing = predicted_timing(trial.candidate.effective_batch / 100)
        grid.append(replace(trial, reading=replace(trial.reading, timing=timing)))
    pass_alone = CachingPass(peak_bytes=700 * MIB, images_per_second=500.0)
    grid += [
        replace(
            trial,
            candidate=replace(trial.candidate, teacher_logits="cached"),
            reading=replace(trial.reading, caching=pass_alone),
        )
        for trial in grid
        if trial.candidate.teacher is not None
    ]
    journal = Journal(plan.journal)
    found = measure_grid(plan, journal, grid, StopRequest(), lambda _: nullcontext(run_on_card))
    assert {"online", "cached", "caching"} == set(asked)
    profile = make_profile(plan, Probed(predicted=tuple(grid), measured=tuple(found)))
    teacher, assistant, _ = profile.choices
    assert teacher.candidate.teacher_logits == "online" and teacher.teacher_views is None
    assert assistant.candidate.teacher_logits == "cached" and assistant.teacher_views == 10
    assert assistant.caching is not None and assistant.caching.images_per_second > 500
    data = RECIPE.dataset_info()
    time = stage_time(assistant, 100, data)
    assert time is not None
    assert time.caching_seconds == pytest.approx(
        10 * data.train_images / assistant.caching.images_per_second
    )
    again = measure_grid(plan, Journal(plan.journal), grid, StopRequest(),
                         lambda _: nullcontext(lambda *_: pytest.fail("again")))  # fmt: skip
    assert again == found
