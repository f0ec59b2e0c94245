"""Mixup and CutMix: what is drawn, what is seen, what is learnt from."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data import draws
from distill.data.batches import Batch, Views, training_batches, views_of
from distill.data.dataset import Split
from distill.data.mixing import Mixing, mixing_of
from distill.spec.candidate import InputSpec
from distill.step.losses import MixedLabels, label_loss
from distill.step.models import Normalisation
from distill.step.prepare import Prepare

CPU = torch.device("cpu")
AS_IT_IS = Normalisation((0.0,) * 3, (1 / 255,) * 3)
BOTH = InputSpec(source_size=8, mixup=0.8, cutmix=1.0, mixed_size=12)


def mixed(spec: InputSpec, count: int, epoch: int = 0, seed: int = 3) -> Mixing:
    found = mixing_of(spec, np.arange(count), seed=seed, epoch=epoch)
    assert found is not None
    return found


def noise(count: int) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return Split(images, np.arange(count))


def prepared(spec: InputSpec, split: Split, views: Views | None) -> torch.Tensor:
    batch = Batch(torch.from_numpy(split.images), torch.from_numpy(split.labels), views)
    return Prepare(spec, 12, AS_IT_IS, CPU)(batch)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    rows = np.arange(4000)
    drawn = draws.beta(np.full(4000, alpha), 1, 2, rows, "mixed")
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert np.array_equal(
        draws.beta(np.full(2, alpha), 1, 2, rows[[70, 3]], "mixed"), drawn[[70, 3]]
    )


@given(
    st.integers(1, 40),
    st.integers(0, 2**63 - 1),
    st.sampled_from([(0.3, None), (None, 1.0), (0.8, 1.0)]),
)
@settings(max_examples=40)
def test_every_image_has_another_and_a_box_that_its_share_tells(count, seed, ways) -> None:
    mixup, cutmix = ways
    spec = InputSpec(source_size=8, mixup=mixup, cutmix=cutmix, mixed_size=12)
    found = mixed(spec, count, seed=seed)
    assert bool((found.share >= 0).all() & (found.share <= 1).all())
    assert count == 1 or bool((found.partner != torch.arange(count)).all())
    if found.box is None:
        assert torch.equal(found.pixels, found.share)
        return
    top, bottom, left, right = found.box.unbind(1)
    assert bool(((top >= 0) & (top <= bottom) & (bottom <= 12)).all())
    assert bool(((left >= 0) & (left <= right) & (right <= 12)).all())
    cut = found.pixels == 1
    area = (bottom - top) * (right - left)
    assert torch.allclose(found.share[cut], (1 - area / 144)[cut].float())
    assert bool((area[~cut] == 0).all())


def test_even_micro_batches_have_the_same_pairs_however_an_update_is_cut() -> None:
    def mixings(micro_batch: int) -> list[Mixing]:
        updates = training_batches(
            noise(24), BOTH, seed=5, epoch=1, micro_batch=micro_batch, effective_batch=12
        )
        found = [batch.views for update in updates for batch in update]
        return [views.mixing for views in found if views is not None and views.mixing is not None]

    def pairs(micro_batch: int) -> list[tuple[int, float]]:
        start, found = 0, []
        for one in mixings(micro_batch):
            places = (one.partner + start).tolist()
            found += list(zip(places, one.share.tolist(), strict=True))
            start += len(places)
        return found

    assert pairs(12) == pairs(4) == pairs(2)
    assert len(pairs(12)) == 24


def test_mixup_is_a_weighted_mean_and_cutmix_a_pasted_part() -> None:
    split = noise(16)
    plain = prepared(InputSpec(source_size=8), split, None)
    views = views_of(BOTH, np.arange(16), seed=0, epoch=0)
    assert views is not None and views.mixing is not None and views.mixing.box is not None
    seen, mixing = prepared(BOTH, split, views), views.mixing
    ways = set()
    for row in range(16):
        own, other = plain[row], plain[mixing.partner[row]]
        share = float(mixing.share[row])
        expected = share * own + (1 - share) * other
        if mixing.pixels[row] == 1:
            top, bottom, left, right = mixing.box[row].tolist()
            expected = own.clone()
            expected[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        ways.add(float(mixing.pixels[row]) == 1)
        torch.testing.assert_close(seen[row], expected)
    assert ways == {True, False}


def test_images_that_are_tested_are_not_mixed() -> None:
    assert torch.equal(
        prepared(BOTH, noise(4), None), prepared(InputSpec(source_size=8), noise(4), None)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_cost_what_torch_says_of_probabilities(smoothing: float) -> None:
    logits, labels, other = torch.randn(6, 4), torch.randint(0, 4, (6,)), torch.randint(0, 4, (6,))
    share = torch.rand(6)
    wanted = share[:, None] * F.one_hot(labels, 4) + (1 - share[:, None]) * F.one_hot(other, 4)
    loss = label_loss(logits, labels, None, smoothing, MixedLabels(other, share))
    expected = F.cross_entropy(logits, wanted, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


def test_several_labels_are_mixed_each() -> None:
    logits = torch.randn(6, 4)
    labels, other = torch.randint(0, 2, (6, 4)), torch.randint(0, 2, (6, 4))
    share = torch.rand(6)
    wanted = share[:, None] * labels + (1 - share[:, None]) * other
    loss = label_loss(logits, labels, mixed=MixedLabels(other, share))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, wanted))
