"""Hidden allocations, each worked out by hand."""

from contextlib import nullcontext

import pytest
import torch

from bench.card.targets import target_named
from bench.simulate.kernels import ROWS, KernelContext, KernelTable
from bench.simulate.kernels.attention import flash_splits
from bench.simulate.kernels.row import KernelRefused
from distill.spec.pins import pins_for

VIT_BASE = (64, 12, 197, 64, 2)
FP32 = (64, 12, 197, 64, 4)


def table(*, deterministic: bool = False, target: str = "rtx4050") -> KernelTable:
    card = target_named(target)
    pins = pins_for(
        "fp16", card.compute_capability, deterministic=deterministic, allocator="native"
    )
    return KernelTable(KernelContext(card, pins, deterministic))


@pytest.mark.parametrize(
    ("row", "dims", "deterministic", "size"),
    [
        ("cublas workspace", (), False, 2 * 4096 * 1024 + 8 * 16 * 1024),
        ("cublas workspace", (), True, 8 * 4096 * 1024),
        ("cublasLt workspace", (), False, 1024 * 1024),
        ("flash forward softmax_lse_accum", VIT_BASE, False, 0),
        ("flash backward softmax_d", VIT_BASE, False, 64 * 12 * 256 * 4),
        ("flash backward dq_accum", VIT_BASE, False, 64 * 256 * 12 * 64 * 4),
        ("flash backward dq_accum", (1, 3, 17, 40, 2), False, 1 * 128 * 3 * 64 * 4),
        ("flash backward dq_accum", (1, 3, 197, 64, 2), True, 7 * 1 * 256 * 3 * 64 * 4),
        ("efficient backward grad_out · out", FP32, False, 64 * 197 * 12 * 64 * 4),
        ("efficient backward grad_out · out", VIT_BASE, False, 0),
        ("efficient backward sum of grad_out · out", FP32, False, 64 * 197 * 12 * 4),
        ("efficient backward delta", FP32, False, 64 * 12 * 197 * 4),
        ("efficient backward workspace", FP32, False, 16400 * 4 * 1 * 64 * 12),
        ("efficient backward workspace", (8, 3, 17, 32, 4), False, 16400 * 1 * 1 * 8 * 3),
        ("foreach norm: partial results", (152, 36, 4), False, 152 * 36 * 4),
        ("index 0, broadcast and made contiguous", (8 * 32 * 32,), False, 8 * 8 * 32 * 32),
        ("sort: places of a row", (196,), False, 196 * 8),
        ("sum: whole numbers made wide", (64,), False, 64 * 8),
        ("variance: partial results", (1, 8_000_000, 1, 1, 4, 0), False, 62 * 16),
        ("place of a value: partial results", (1, 8_000_000, 1, 1, 4, 0), False, 62 * 16),
        ("value of a reduction: partial results", (1, 8_000_000, 1, 1, 1, 0), False, 62),
        ("embedding backward: the sort's storage", (4096, 5000, 64), False, 84_479),
        ("embedding backward: the sort's storage", (16384, 50000, 100), False, 284_159),
        ("embedding backward: unique's storage", (16384, 50000, 100), False, 2047),
        ("embedding backward: the scan's storage", (4096, 5000, 64), False, 1279),
        ("embedding backward: the scan's storage", (16384, 50000, 100), False, 1535),
        ("embedding backward: where parts begin", (4096, 5000, 64), False, 36_040),
        ("embedding backward: partial sums", (4096, 5000, 64), False, 1_153_280),
        ("group norm backward: c2", (64, 16, 1), False, 64),
        ("group norm backward: c1", (64, 16, 0), False, 0),
        ("sum: partial results", (2, 1576, 768, 768, 1, 1, 0, 2, 0), False, 9_830_400),
        ("sum: semaphores", (2, 1576, 768, 768, 1, 1, 0, 2, 0), False, 24),
        ("layer norm backward: partial dgamma", (65536 * 192, 192, 4), False, 0),
        ("layer norm backward: partial dgamma", (65537 * 192, 192, 4), False, 2049 * 192 * 4),
        ("layer norm backward: partial dgamma", (90000 * 768, 768, 4), False, 0),
    ],
)
def test_a_row_by_hand(row: str, dims, deterministic: bool, size: int) -> None:
    assert table(deterministic=deterministic).size(row, dims) == size


def test_a_deterministic_flash_backward_makes_a_copy_for_each_share_of_the_card() -> None:
    dims = (1, 3, 197, 64, 2)
    row = "flash backward dq_accum"
    one = table().size(row, dims)
    assert table(deterministic=True).size(row, dims) == 7 * one  # 20 SM over 3 heads
    assert table(deterministic=True, target="h200").size(row, dims) == 44 * one  # 132 SM


@pytest.mark.parametrize(
    ("target", "depth", "refused"),
    [
        ("rtx4050", 192, False),
        ("rtx4050", 208, True),
        ("rtx3060", 224, True),
        ("rtx5050-laptop", 200, True),
        ("rtx4050", 232, False),
        ("a100", 208, False),
        ("h200", 208, False),
    ],
)
def test_flash_does_not_train_some_heads_on_cards_with_little_shared_memory(
    target: str, depth: int, refused: bool
) -> None:
    expected = pytest.raises(KernelRefused, match="capability") if refused else nullcontext()
    with expected:
        table(target=target).size("flash backward softmax_d", (2, 1, 17, depth, 2))


@pytest.mark.parametrize(
    ("batch", "multiprocessors", "splits"),
    [(1, 108, 3), (1, 132, 2), (1, 128, 2), (1, 84, 1), (2, 132, 1)],
)
def test_flash_splits_long_sequences_on_few_heads(batch, multiprocessors, splits) -> None:
    """384 px: 577 tokens, 12 heads."""
    assert flash_splits((batch, 12, 577, 64, 2), multiprocessors) == splits


def test_flash_never_splits_sequences_of_up_to_256() -> None:
    assert {flash_splits((1, 1, n, 64, 2), 132) for n in (1, 64, 197, 256)} == {1}


# -- what applies, as the ops themselves say


def hidden(op: str, *args, target: str = "rtx4050"):
    return {one.row: one for one in table(target=target)(op, args, ())}


def taken(op: str, *args) -> set[str]:
    return {row for row, one in hidden(op, *args).items() if one.size_bytes}


def test_only_a_product_with_a_bias_goes_to_cublaslt() -> None:
    a, b = torch.ones(4, 4), torch.ones(4, 4)
    assert taken("aten.mm.default", a, b) == {"cublas workspace"}
    assert taken("aten.addmm.default", torch.ones(4), a, b) == {
        "cublas workspace",
        "cublasLt workspace",
    }
    assert taken("aten.addmm.default", torch.ones(4, 4), a, b) == {"cublas workspace"}


def test_a_matrix_is_copied_where_cublas_takes_it_in_neither_order() -> None:
    op, well = "aten.mm.default", torch.ones(4, 4)
    assert taken(op, well.t(), well) == {"cublas workspace"}
    for badly in (torch.ones(1).expand(4, 4), torch.ones(4, 8)[:, ::2]):
        copied = hidden(op, well, badly)["aten.mm.default: matrix 2 in an order that cuBLAS takes"]
        assert copied.size_bytes == 4 * 4 * 4


def test_a_gradient_of_attention_that_lies_well_is_not_copied() -> None:
    op = "aten._scaled_dot_product_flash_attention_backward.default"
    well = torch.ones(2, 8, 3, 4, dtype=torch.float16).transpose(1, 2)
    badly = torch.ones(2, 3, 8, 4, dtype=torch.float16)
    for name in ("flash backward grad_out.contiguous()", "flash backward out.contiguous()"):
        assert hidden(op, *[well] * 5)[name].size_bytes == 0
        assert hidden(op, *[badly] * 5)[name].size_bytes == 2 * 3 * 8 * 4 * 2
        assert hidden(op, *[badly] * 5)[name].before


def test_a_layer_norm_puts_its_input_and_its_gradient_in_order() -> None:
    """ConvNeXt's stem: (N, C, H, W) seen as (N, H, W, C). The gradient is copied last."""
    well = torch.ones(2, 4, 4, 8)
    badly = torch.ones(2, 8, 4, 4).permute(0, 2, 3, 1)
    forward = "layer norm: input in order"
    for image, size in ((well, 0), (badly, 4 * 2 * 8 * 4 * 4)):
        found = hidden("aten.native_layer_norm.default", image, [8], None, None, 1e-6)[forward]
        assert (found.size_bytes, found.before) == (size, True)
    op = "aten.native_layer_norm_backward.default"
    weight, mask = torch.ones(8), [True, True, True]
    found = hidden(op, badly, badly, [8], None, None, weight, weight, mask)
    copies = {row: one.before for row, one in found.items() if one.size_bytes == 4 * 2 * 8 * 4 * 4}
    assert copies == {
        "layer norm backward: input in order": True,
        "layer norm backward: gradient in order": False,
    }
    assert not any(
        one.size_bytes
        for one in hidden(op, well, well, [8], None, None, weight, weight, mask).values()
    )


def test_indices_of_one_shape_are_not_copied() -> None:
    same = [torch.zeros(3, dtype=torch.int64)] * 2
    assert hidden("aten.index.Tensor", torch.ones(4, 4), same) == {}
    apart = [torch.zeros(3, 1, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)]
    copies = hidden("aten.index.Tensor", torch.ones(4, 4), apart)
    assert [copy.size_bytes for copy in copies.values()] == [8 * 15, 8 * 15]


def patches(batch: int, number: torch.dtype) -> tuple:
    """A patch embedding's arguments: ViT-Tiny's."""
    image = torch.empty(batch, 3, 224, 224, dtype=number, device="meta")
    weight = torch.empty(192, 3, 16, 16, dtype=number, device="meta")
    return image, weight, [16, 16], [0, 0], [1, 1], False, [0, 0], 1


def test_cudnn_answers_for_a_card_that_is_not_there() -> None:
    """The library's own heuristics; irregular in the batch, so never interpolated."""
    sizes = []
    for batch in (8, 32, 128):
        image, weight, *rest = patches(batch, torch.float16)
        grad = torch.empty(batch, 192, 14, 14, dtype=torch.float16, device="meta")
        found = hidden(
            "aten.convolution_backward.default",
            grad, image, weight, [192], *rest, [False, True, True],
        )  # fmt: skip
        assert "cudnn backward data workspace" not in found
        sizes.append(found["cudnn backward filter workspace"].size_bytes)
    assert sizes == [7_811_600, 120_111_248, 113_180_944]


def test_workspaces_of_a_backward_lie_behind_the_gradient_that_they_are_for() -> None:
    """The sum over the bias comes last (Convolution.cpp, convolution_backward)."""
    image, weight, *rest = patches(8, torch.float16)
    grad = torch.empty(8, 192, 14, 14, dtype=torch.float16, device="meta")
    found = hidden(
        "aten.convolution_backward.default", grad, image, weight, [192], *rest, [True, True, True]
    )
    assert {name: one.after_output for name, one in found.items() if one.owner == "workspaces"} == {
        "cudnn backward data workspace": 0,
        "cudnn backward filter workspace": 1,
    }


def test_a_weight_is_copied_into_the_order_of_an_input_in_channels_last() -> None:
    image = torch.empty(2, 8, 14, 14, device="meta")
    weight = torch.empty(16, 8, 3, 3, device="meta")
    rest = [1, 1], [1, 1], [1, 1], False, [0, 0], 1
    name = "cudnn forward weight in the input's order"
    assert hidden("aten.convolution.default", image, weight, None, *rest)[name].size_bytes == 0
    last = image.to(memory_format=torch.channels_last)
    copy = hidden("aten.convolution.default", last, weight, None, *rest)[name]
    assert copy.size_bytes == 16 * 8 * 3 * 3 * 4
    backward = "aten.convolution_backward.default"
    grad = torch.empty(2, 16, 14, 14, device="meta").to(memory_format=torch.channels_last)
    found = hidden(backward, grad, last, weight, [16], *rest, [True, True, False])
    again = found["cudnn backward weight in the gradient's order"]
    assert (again.size_bytes, again.after_output, again.outlives) == (copy.size_bytes, 0, 1)


@pytest.mark.parametrize(
    ("number", "order", "size_bytes"),
    [
        (torch.float32, torch.channels_last, 164_079_223),
        (torch.float32, torch.contiguous_format, 0),
        (torch.float16, torch.channels_last, 0),
    ],
)
def test_a_depthwise_convolution_is_asked_about_where_cudnn_runs_it(
    number, order, size_bytes
) -> None:
    """ConvNeXt's first, as an H100 recorded it; 16 bits are taken as 0."""
    image = torch.empty(16, 96, 56, 56, dtype=number, device="meta").to(memory_format=order)
    weight = torch.empty(96, 1, 7, 7, dtype=number, device="meta")
    rest = [1, 1], [3, 3], [1, 1], False, [0, 0], 96
    found = hidden(
        "aten.convolution_backward.default",
        image, image, weight, [96], *rest, [True, True, True], target="h200",
    )  # fmt: skip
    assert found["cudnn backward filter workspace"].size_bytes == size_bytes


def test_only_a_workspace_that_is_not_certain_has_a_bound_above_it() -> None:
    """ResNet-18's first 3×3 convolution of 16 bits, and ViT-Tiny's patch embedding."""
    card, name = table(target="h200"), "cudnn forward workspace"
    layer = (16, 64, 56, 56, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 1)
    scratch = card.context.target.multiprocessors * 128 * 1024
    assert card.bound(name, layer) == card.size(name, layer) + scratch
    patches_of_tiny = (16, 3, 224, 224, 192, 3, 16, 16, 16, 16, 0, 0, 1, 1, 1, 0, 1)
    assert card.bound(name, patches_of_tiny) == card.size(name, patches_of_tiny)
    assert card.bound("cublas workspace", ()) is None


def test_a_forward_convolution_asks_too() -> None:
    image, weight, *rest = patches(8, torch.float16)
    found = hidden("aten.convolution.default", image, weight, None, *rest)
    assert found["cudnn forward workspace"].size_bytes == 3_305_488


def test_what_cudnn_does_not_run_it_is_not_asked_about() -> None:
    image, weight, stride, padding, dilation, *rest = patches(8, torch.float16)
    depthwise = torch.empty(3, 1, 16, 16, dtype=torch.float16, device="meta")
    args = (image, depthwise, None, stride, padding, dilation, False, [0, 0], 3)
    doubled = (image.double(), weight.double(), None, stride, padding, dilation, *rest)
    for these in (args, doubled):
        found = hidden("aten.convolution.default", *these)
        assert not any(one.size_bytes for one in found.values())


def test_every_row_names_its_source_and_has_a_name_of_its_own() -> None:
    assert all(len(row.source) > 20 for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_bias_gradients_take_more_on_a_card_with_more_multiprocessors() -> None:
    dims = (2, 6304, 768, 768, 1, 1, 0, 2, 0)
    small, large = (table(target=t).size("sum: partial results", dims) for t in ("rtx4050", "h200"))
    assert (small, large) == (15_728_640, 38_928_384)
