"""Scratch of reductions, against another port that was held to the wheel's compiled function."""

import pytest

from bench.simulate.kernels.reductions import NOTHING, Gpu, Operand, Scratch, scratch

RTX4050, H200 = Gpu(20, 1536), Gpu(132, 2048)


def rows(count: int, width: int, item_bytes: int) -> Operand:
    """A contiguous (count, width) tensor, summed over its rows: a bias gradient."""
    return Operand((count, width), (width, 1), (True, False), item_bytes)


@pytest.mark.parametrize(
    ("count", "width", "item_bytes", "gpu", "partials", "semaphores"),
    [
        (1576, 768, 2, RTX4050, 9_830_400, 24),
        (1576, 768, 4, RTX4050, 9_830_400, 24),
        (6304, 3072, 2, RTX4050, 15_728_640, 96),
        (25216, 768, 4, H200, 138_412_032, 24),
        (1576, 192, 2, RTX4050, 2_457_600, 8),
        (25216, 10, 2, RTX4050, 8_000, 8),
        (25216, 10, 4, H200, 8_000, 8),
        (6304, 768, 2, H200, 38_928_384, 24),
        (25216, 3072, 2, RTX4050, 39_321_600, 96),
    ],
)
def test_a_bias_gradient(count, width, item_bytes, gpu, partials, semaphores) -> None:
    assert scratch(rows(count, width, item_bytes), gpu) == Scratch(partials, semaphores)


@pytest.mark.parametrize("gpu", [RTX4050, H200])
def test_few_rows_need_nothing(gpu: Gpu) -> None:
    assert scratch(rows(197, 768, 2), gpu) == NOTHING


def batch_of(count: int, tokens: int = 197, width: int = 768) -> Operand:
    """(B, tokens, width) summed over the batch: the gradient of position embeddings."""
    return Operand((count, tokens, width), (tokens * width, width, 1), (True, False, False), 4)


def test_position_embeddings_need_scratch_only_in_very_large_batches() -> None:
    assert all(scratch(batch_of(count), RTX4050) == NOTHING for count in (8, 64, 256))
    assert scratch(batch_of(1024), H200) == Scratch(154_927_104, 4728)


def test_a_full_sum_needs_scratch_from_130_561_numbers_on() -> None:
    def full(count: int) -> Scratch:
        return scratch(Operand((count,), (1,), (True,), 4), RTX4050)

    assert full(130_560) == NOTHING
    assert full(130_561) == Scratch(64, 4)


def test_averaging_small_pictures_needs_nothing() -> None:
    pictures = Operand((64, 2048, 7, 7), (2048 * 49, 49, 7, 1), (False, False, True, True), 4)
    assert scratch(pictures, RTX4050) == NOTHING


@pytest.mark.parametrize(
    ("count", "gpu", "partials"),
    [
        (8, RTX4050, 9_830_400),
        (32, RTX4050, 15_728_640),
        (32, H200, 38_535_168),
        (128, H200, 138_412_032),
    ],
)
def test_the_patch_embeddings_bias_sums_a_strided_slice(count, gpu, partials) -> None:
    """The gradient of 14 × 14 patches, cut out of (B, 197, 768) behind the class token."""
    strides = (197 * 768, 1, 14 * 768, 768)
    sliced = Operand((count, 768, 14, 14), strides, (True, False, True, True), 4, offset=768)
    assert scratch(sliced, gpu) == Scratch(partials, 24)


def test_the_same_gradient_in_channels_first_order_needs_nothing() -> None:
    packed = Operand((32, 768, 14, 14), (768 * 196, 196, 14, 1), (True, False, True, True), 4)
    assert scratch(packed, RTX4050) == NOTHING
