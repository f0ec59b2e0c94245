"""Random views on the device, and that readers ahead change nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.data.ahead import in_order
from distill.data.batches import Views, cut, evaluation_batches, training_batches, views_of
from distill.data.dataset import Split
from distill.spec.candidate import InputSpec
from distill.spec.training import Augmentation
from distill.step.models import Normalisation
from distill.step.prepare import Prepare

CPU = torch.device("cpu")
AS_IT_IS = Normalisation((0.0,) * 3, (1 / 255,) * 3)


def noise(count: int, size: int) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return Split(images, np.arange(count))


@pytest.mark.parametrize(("stored", "made"), [(16, 12), (12, 20), (9, 9)])
def test_a_resized_crop_is_what_interpolate_makes_of_each_part(stored: int, made: int) -> None:
    data, rows = noise(24, stored), np.arange(24)
    spec = InputSpec(source_size=stored, crop_scale=0.2, flip=True)
    views = views_of(spec, rows, seed=1, epoch=0)
    assert views is not None and views.height is not None and views.width is not None
    batch = cut(data, rows, views)
    seen = Prepare(spec, made, AS_IT_IS, CPU)(batch)
    for row in rows:
        y, x, h, w = (
            int(value[row]) for value in (views.offset_y, views.offset_x, views.height, views.width)
        )
        part = batch.images[row : row + 1, :, y : y + h, x : x + w].float()
        one = F.interpolate(part, size=(made, made), mode="bilinear", antialias=True)[0]
        assert torch.allclose(seen[row], one.flip(2) if views.flip[row] else one, atol=1e-2)
    assert 0 < int(views.flip.sum()) < 24


@given(st.integers(1, 64), st.floats(0.01, 1), st.integers(0, 2**63 - 1))
@settings(max_examples=60)
def test_a_crop_lies_inside_its_image(size: int, smallest: float, seed: int) -> None:
    spec = InputSpec(source_size=size, crop_scale=smallest)
    views = views_of(spec, np.arange(50), seed=seed, epoch=3)
    assert views is not None and views.height is not None and views.width is not None
    for offset, length in ((views.offset_y, views.height), (views.offset_x, views.width)):
        assert bool((length >= 1).all() & (offset >= 0).all() & (offset + length <= size).all())


def test_a_view_is_a_function_of_seed_epoch_and_sample() -> None:
    spec = InputSpec(source_size=32, crop_scale=0.3, flip=True)
    whole = views_of(spec, np.arange(64), seed=5, epoch=2)
    part = views_of(spec, np.array([40, 3]), seed=5, epoch=2)
    other = views_of(spec, np.arange(64), seed=5, epoch=3)
    assert whole is not None and part is not None and other is not None
    assert part.height is not None and whole.height is not None
    for name in ("offset_y", "offset_x", "flip", "height", "width"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[[40, 3]])
        assert not torch.equal(getattr(other, name), getattr(whole, name))


def test_two_kinds_of_crop_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        Augmentation(crop_padding=4, crop_scale=0.5)


# -- readers ahead


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order_whoever_is_done_first(workers: int) -> None:
    assert list(in_order(lambda n: n * n, range(40), workers)) == [n * n for n in range(40)]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_fails_ahead_fails_where_it_is_asked_for(workers: int) -> None:
    results = in_order(lambda n: 1 // (3 - n), range(10), workers)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_reader_is_not_further_ahead_than_memory_allows() -> None:
    begun: list[int] = []
    results = in_order(lambda n: begun.append(n), range(1000), 2)
    next(results)
    results.close()
    assert len(begun) <= 6


def test_batches_are_the_same_with_no_reader_and_with_two() -> None:
    spec = InputSpec(source_size=8, crop_scale=0.4, flip=True)
    alone, helped = (Split(noise(50, 8).images, np.arange(50), workers=count) for count in (0, 2))
    numbers = {"seed": 1, "epoch": 4, "micro_batch": 4, "effective_batch": 12}
    for one, other in zip(
        (b for update in training_batches(alone, spec, **numbers) for b in update),
        (b for update in training_batches(helped, spec, **numbers) for b in update),
        strict=True,
    ):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert isinstance(one.views, Views) and isinstance(other.views, Views)
        assert torch.equal(one.views.offset_x, other.views.offset_x)
    pairs = zip(evaluation_batches(alone, 7), evaluation_batches(helped, 7), strict=True)
    assert all(torch.equal(one.images, other.images) for one, other in pairs)


def test_a_teacher_sees_images_as_its_own_normalisation_has_them() -> None:
    spec, batch = InputSpec(source_size=4), cut(noise(3, 4), np.arange(3), None)
    mine = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    its = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    prepare = Prepare(spec, 6, mine, CPU, teacher=its)
    images = prepare(batch)
    before = images.clone()
    seen = prepare.for_teacher(images)
    torch.testing.assert_close(seen, Prepare(spec, 6, its, CPU)(batch))
    assert torch.equal(images, before)
    same = Prepare(spec, 6, mine, CPU, teacher=mine)
    assert same.for_teacher(images) is images
