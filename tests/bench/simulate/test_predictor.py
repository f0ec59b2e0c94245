"""Predictions: the shortcut equals the long way, the cache changes nothing, edges are edges."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.card.targets import target_named
from bench.simulate import predictor as predicting
from bench.simulate.cache import TraceCache, default_folder
from bench.simulate.prediction import Prediction
from bench.simulate.predictor import Predictor
from distill.base.errors import UserError
from distill.base.units import MIB
from distill.spec.candidate import Candidate
from distill.spec.recipe import load_recipe
from distill.step import models

RTX4050 = target_named("rtx4050")


def predictor(allocator="expandable", target=RTX4050) -> Predictor:
    """One that may know what an earlier test had traced."""
    return Predictor(target, allocator)


def anew() -> Predictor:
    """One that traces everything itself."""
    return Predictor(RTX4050, "expandable", TraceCache(None))


def candidate(stage="student", precision="fp16", checkpointing=0, batch=8) -> Candidate:
    return replace(
        load_recipe("cifar10").candidate(stage, micro_batch=batch),
        accumulation=1,
        precision=precision,
        checkpointing=checkpointing,
        implementation="fused",
    )


def shallow(*arguments, depth: int = 2, **changes) -> Candidate:
    """Few blocks a model, where what is asked does not depend on how many there are."""
    whole = candidate(*arguments, **changes)
    teacher = None if whole.teacher is None else replace(whole.teacher, depth=depth)
    return replace(whole, student=replace(whole.student, depth=depth), teacher=teacher)


def bytes_of(prediction: Prediction) -> tuple:
    return (
        prediction.requested,
        prediction.allocated,
        prediction.reserved,
        prediction.cap_needed,
        prediction.breakdown,
    )


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [0, 1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("stage", ["teacher", "assistant", "student"])
def test_the_batch_shortcut_equals_the_full_trace(stage, precision, checkpointing) -> None:
    """At batch sizes that were not used to derive it: odd or prime, drawn anew for each case.

    The whole models in fp16, which is what a profile chooses; four of their blocks otherwise.
    """
    drawn = random.Random(f"{stage}{precision}{checkpointing}")
    depth = 12 if precision == "fp16" else 4
    # Without an epoch's last batch, which has another size: the long way would be the short one.
    wanted = replace(shallow(stage, precision, checkpointing, depth=depth), images_per_epoch=None)
    covered = predictor()
    covered.fit_family(wanted)
    batch = drawn.choice([drawn.randrange(3, 200, 2), drawn.choice([2, 7, 53, 127])])
    there = replace(wanted, micro_batch=batch)
    assert bytes_of(covered.predict(there)) == bytes_of(anew().predict(there)), batch


@pytest.mark.slow
def test_the_order_of_questions_does_not_matter() -> None:
    cells = [shallow(batch=b, checkpointing=k) for b in (1, 5, 16) for k in (0, 1)]
    one, other = anew(), anew()
    forth = [bytes_of(one.predict(cell)) for cell in cells]
    back = [bytes_of(other.predict(cell)) for cell in reversed(cells)]
    assert forth == back[::-1]


@pytest.mark.slow
def test_breakdowns_sum_to_the_reserved_peak() -> None:
    asked = predictor()
    for cell in (shallow(batch=b, precision=p) for b in (1, 3, 32) for p in ("fp16", "fp32")):
        prediction = asked.predict(cell)
        assert sum(prediction.breakdown.values()) == prediction.reserved
        assert min(prediction.breakdown.values()) >= 0


@pytest.mark.slow
def test_the_largest_storages_are_the_largest() -> None:
    prediction = predictor().predict(candidate("teacher"))
    sizes = [allocation.size_bytes for allocation in prediction.largest]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 3
    assert all(allocation.op for allocation in prediction.largest)


# -- optimizers


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "numbers_a_weight"), [("adamw", 2), ("adam", 2), ("sgd", 1)])
def test_optimizer_state(optimizer: str, numbers_a_weight: int) -> None:
    prediction = predictor().predict(replace(candidate(), optimizer=optimizer))
    share = prediction.breakdown["optimizer_state"] / prediction.breakdown["weights"]
    assert share == pytest.approx(numbers_a_weight, abs=0.01)


@pytest.mark.slow
def test_foreach_needs_a_list_of_temporaries_and_fused_does_not() -> None:
    small = candidate("teacher", batch=1, checkpointing=1)
    fused, foreach, plain = (
        predictor().predict(replace(small, implementation=how, clip_norm=False))
        for how in ("fused", "foreach", "plain")
    )
    weights = fused.breakdown["weights"]
    assert foreach.allocated - fused.allocated > 0.7 * weights
    assert foreach.peak_phase == "update"
    assert fused.allocated <= plain.allocated < foreach.allocated


# -- models


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "resnet50", "deit_tiny_distilled_patch16_224"])
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_other_models_are_predicted_too(model: str, checkpointing: int) -> None:
    base = candidate("teacher", checkpointing=checkpointing)
    prediction = predictor().predict(replace(base, student=replace(base.student, name=model)))
    assert prediction.breakdown["weights"] > 10 * MIB
    assert sum(prediction.breakdown.values()) == prediction.reserved


@pytest.mark.usefixtures("models_are_built_anew")
def test_a_forward_that_asks_its_data_is_one_sentence(monkeypatch) -> None:
    class Asking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3 * 32 * 32, 10)

        def forward(self, x):
            return self.head(x[x > x.mean()][: 3 * 32 * 32].reshape(1, -1).expand(len(x), -1))

    monkeypatch.setattr(models, "_create", lambda *_: Asking())
    with pytest.raises(UserError, match="can't be traced without its data"):
        anew().predict(candidate("teacher"))


@pytest.mark.slow
def test_what_a_model_refuses_is_one_sentence_and_a_defect_of_ours_is_not(
    monkeypatch, capfd
) -> None:
    base = candidate("teacher")
    whole = replace(base, student=replace(base.student, name="levit_128s"))
    with pytest.raises(UserError, match="can't be run on 200 px"):
        anew().predict(replace(whole, student=replace(whole.student, image_size=200)))
    assert capfd.readouterr().err == ""  # torch would tell a traceback
    early = replace(base, student=replace(base.student, name="sequencer2d_s"))
    with pytest.raises(UserError, match="sequencer2d_s can't be run"):  # C++ refuses an LSTM
        anew().predict(early)
    monkeypatch.setattr("bench.simulate.trace.tracer.BEGINS_A_PART", None)
    with pytest.raises(TypeError):
        anew().predict(candidate("student"))


def test_what_a_teacher_refuses_is_told_of_the_teacher() -> None:
    base = candidate("student")
    assert base.teacher is not None
    hiera = replace(base, teacher=replace(base.teacher, name="hiera_tiny_224"))
    with pytest.raises(UserError, match="hiera_tiny_224 has attention over 5.*another --teacher"):
        anew().predict(hiera)


@pytest.mark.slow
def test_batch_norm_at_many_pixels_is_a_straight_line_too() -> None:
    base = replace(candidate("teacher", batch=6), accumulation=3, images_per_epoch=50_000)
    wanted = replace(base, student=replace(base.student, name="resnet50", image_size=512))
    asked = predictor()
    fitted = asked.predict(wanted)
    even = replace(wanted, accumulation=1, images_per_epoch=None)
    alone = anew().predict(even)
    assert bytes_of(asked.predict(even)) == bytes_of(alone)
    assert fitted.reserved >= alone.reserved


def test_a_model_that_timm_does_not_know_is_one_sentence() -> None:
    base = candidate("teacher")
    with pytest.raises(UserError, match="timm has no model 'vit_gigantic'"):
        predictor().predict(replace(base, student=replace(base.student, name="vit_gigantic")))


# -- runs


def test_evaluating_more_at_once_raises_the_peak_only_beyond_the_batch_found() -> None:
    asked = predictor()
    wanted = candidate("teacher", batch=16)
    asked.fit_family(wanted)
    batch = asked.evaluation_batch(wanted)
    assert batch >= 16 and batch.bit_count() == 1
    peak = asked.predict(replace(wanted, evaluation_batch=1)).safe_bytes
    assert asked.predict(replace(wanted, evaluation_batch=batch)).safe_bytes <= peak
    assert asked.predict(replace(wanted, evaluation_batch=2 * batch)).safe_bytes > peak


@pytest.mark.slow
def test_an_evaluation_that_is_the_peak_is_named() -> None:
    prediction = predictor().predict(
        replace(candidate("student", checkpointing=1, batch=2), evaluation_batch=1024)
    )
    assert prediction.peak_phase == prediction.peak_part == "evaluate"


def test_accumulated_gradients_are_there_during_the_next_forward() -> None:
    once, twice = (
        predictor().predict(replace(candidate("teacher"), accumulation=n)) for n in (1, 2)
    )
    weights = once.breakdown["weights"]
    assert twice.allocated - once.allocated == pytest.approx(weights, rel=0.1)
    assert twice.peak_part == "more"


# -- the edge


@pytest.mark.slow
@pytest.mark.parametrize("limit_mib", [600, 1500, 5007])
def test_the_largest_batch_fits_and_the_next_does_not(limit_mib: int) -> None:
    asked = predictor()
    wanted = candidate("assistant", "fp16")
    limit = limit_mib * MIB
    largest = asked.largest_batch(wanted, limit)
    if largest:
        assert asked.predict(replace(wanted, micro_batch=largest)).safe_bytes <= limit
    assert asked.predict(replace(wanted, micro_batch=largest + 1)).safe_bytes > limit


def test_nothing_fits_in_nothing() -> None:
    assert predictor().largest_batch(candidate("teacher"), 100 * MIB) == 0


# -- the allocator's kind


@pytest.mark.slow
def test_native_segments_are_tried_in_many_orders_and_the_worst_is_told() -> None:
    native = predictor("native").predict(candidate("assistant", batch=16))
    expandable = predictor().predict(candidate("assistant", batch=16))
    assert native.allocated >= native.requested
    assert native.reserved_max >= native.reserved
    assert native.reserved > expandable.reserved
    assert expandable.reserved_max == expandable.reserved


@pytest.mark.slow
def test_turing_has_no_flash_and_needs_the_other_kernels_scratch() -> None:
    old = predictor(target=target_named("rtx2060")).predict(candidate())
    assert old.pins.attention == "efficient"


# -- the cache


def test_a_cached_trace_is_not_traced_again_and_gives_the_same_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Predictor(RTX4050, "expandable", TraceCache(tmp_path))
    cold = bytes_of(first.predict(shallow()))
    assert len(list(tmp_path.glob("*.npz"))) >= 1
    monkeypatch.setattr(predicting, "trace_or_refuse", None)
    again = Predictor(RTX4050, "expandable", TraceCache(tmp_path))
    assert bytes_of(again.predict(shallow())) == cold


def test_what_caches_a_teachers_logits_is_traced_at_two_batches_for_all() -> None:
    asked = anew()
    asked.fit_family(replace(shallow(batch=4), teacher_logits="cached"))
    covered = len(asked.programs)
    for batch in (4, 9, 30):
        wanted = replace(shallow(batch=batch), teacher_logits="cached")
        caching = asked.predict(wanted).caching
        assert len(asked.programs) == covered == 2
        alone = anew().predict(wanted.caching())
        assert caching is not None and caching.breakdown == alone.breakdown
        assert caching.timing == alone.timing


def test_a_cached_program_is_the_traced_one(tmp_path: Path) -> None:
    one = Predictor(RTX4050, "expandable", TraceCache(tmp_path)).program(shallow())
    other = Predictor(RTX4050, "expandable", TraceCache(tmp_path)).program(shallow())
    assert one.spans == other.spans and one.formulas == other.formulas
    for name in ("base", "slope", "death", "span_of", "owner_of", "op", "module"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_torn_cache_is_traced_again(tmp_path: Path, keep: int) -> None:
    first = Predictor(RTX4050, "expandable", TraceCache(tmp_path))
    cold = bytes_of(first.predict(shallow()))
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:keep])
    again = Predictor(RTX4050, "expandable", TraceCache(tmp_path))
    assert bytes_of(again.predict(shallow())) == cold


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = TraceCache(tmp_path / "file" / "traces")
    Predictor(RTX4050, "expandable", cache).predict(shallow())
    assert cache.folder is None


def test_the_cache_lives_where_caches_live(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().is_relative_to(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder().is_relative_to(tmp_path / "home" / ".cache")


def test_another_card_or_pin_has_another_key(tmp_path: Path) -> None:
    cache = TraceCache(tmp_path)
    asked = predictor()
    pins = asked._pins(candidate())
    here = cache.path(candidate(), RTX4050, pins)
    assert here != cache.path(candidate(), target_named("h200"), pins)
    assert here != cache.path(candidate(batch=9), RTX4050, pins)
    assert here != cache.path(
        candidate(), RTX4050, pins.model_copy(update={"attention": "efficient"})
    )


def test_more_bytes_than_can_be_counted_are_one_sentence() -> None:
    """Never a smaller number that has run over."""
    asked, engine = shallow("student", batch=8), predictor()
    engine.fit_family(asked)
    assert engine.predict(replace(asked, micro_batch=2**30)).requested > 2**50
    with pytest.raises(UserError, match="than 64 bits can count. Take fewer or smaller ones"):
        engine.predict(replace(asked, micro_batch=2**60))
