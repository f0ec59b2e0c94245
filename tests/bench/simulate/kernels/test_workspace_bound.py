"""The most that cuDNN may take, against what an H100 took where a described card said less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.card.targets import target_named
from bench.simulate.kernels.convolution import Convolution, ConvolutionPass
from bench.simulate.kernels.cudnn import ConvolutionPlan, first_plan
from bench.simulate.kernels.workspace_bound import LARGEST_TILE_BYTES, workspace_bound
from distill.spec.candidate import Precision

H100 = (9, 0)
MULTIPROCESSORS = 132

Layer = tuple[tuple[int, int, int, int], tuple[int, int, int, int], int, int]
"""Input, weight, stride, padding."""


def convolution(layer: Layer, number: Precision, *, channels_last: bool = False) -> Convolution:
    images, weight, stride, padding = layer
    return Convolution(
        input=images,
        weight=weight,
        stride=(stride, stride),
        padding=(padding, padding),
        dilation=(1, 1),
        number=number,
        channels_last=channels_last,
    )


def asked(kind: ConvolutionPass, one: Convolution, capability=H100) -> ConvolutionPlan:
    plan = first_plan(kind, one, capability, deterministic=False)
    assert plan is not None
    return plan


RECORDED: tuple[tuple[ConvolutionPass, Layer, Precision, bool, int], ...] = (
    ("forward", ((16, 128, 28, 28), (256, 128, 3, 3), 2, 1), "fp32", False, 17_629_567),
    ("backward_filter", ((16, 256, 14, 14), (256, 256, 3, 3), 1, 1), "fp32", False, 15_860_319),
    ("backward_filter", ((16, 64, 56, 56), (64, 64, 3, 3), 1, 1), "fp16", False, 14_836_391),
    ("forward", ((16, 384, 14, 14), (768, 384, 2, 2), 2, 0), "fp32", True, 5_505_351),
    ("backward_filter", ((16, 1024, 14, 14), (512, 1024, 1, 1), 1, 0), "fp32", False, 33_554_432),
    ("backward_filter", ((16, 320, 7, 7), (1280, 320, 1, 1), 1, 0), "fp16", False, 26_214_400),
    ("backward_data", ((16, 320, 7, 7), (1280, 320, 1, 1), 1, 0), "fp32", False, 7_770_455),
    ("backward_data", ((16, 1152, 1, 1), (48, 1152, 1, 1), 1, 0), "fp32", False, 884_992),
    ("forward", ((16, 672, 1, 1), (28, 672, 1, 1), 1, 0), "fp16", False, 25_344),
    ("backward_filter", ((16, 768, 7, 7), (768, 1, 7, 7), 1, 3), "fp16", True, 19_267_584),
    ("forward", ((16, 1152, 7, 7), (1152, 1, 5, 5), 1, 2), "fp16", False, 3_728_030),
)
"""ResNets, EfficientNet-B0 and ConvNeXt-Tiny of 16 images: `results/evidence/h100/`."""


@pytest.mark.parametrize(("kind", "layer", "number", "channels_last", "taken"), RECORDED)
def test_no_recorded_workspace_is_above_its_bound(
    kind: ConvolutionPass, layer: Layer, number: Precision, channels_last: bool, taken: int
) -> None:
    one = convolution(layer, number, channels_last=channels_last)
    assert workspace_bound(kind, one, asked(kind, one), MULTIPROCESSORS) >= taken


@pytest.mark.parametrize("number", ["fp32", "fp16"])
@pytest.mark.parametrize("card", ["h200", "rtx4050", "a100", "rtx2060", "rtx5060-laptop"])
@pytest.mark.parametrize("kind", ["forward", "backward_filter"])
def test_a_patch_embeddings_workspace_is_certain(
    kind: ConvolutionPass, card: str, number: Precision
) -> None:
    capability = target_named(card).compute_capability
    for width in (192, 384, 768):
        one = convolution(((8, 3, 224, 224), (width, 3, 16, 16), 16, 0), number)
        plan = asked(kind, one, capability)
        assert not plan.has_clusters
        assert workspace_bound(kind, one, plan, 200) == plan.workspace_bytes


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (12, 0)])
def test_kernels_in_clusters_are_of_9_0_alone(capability: tuple[int, int]) -> None:
    one = convolution(((16, 256, 14, 14), (256, 256, 3, 3), 1, 1), "fp16")
    for kind in ("forward", "backward_data", "backward_filter"):
        assert asked(kind, one).has_clusters
        assert not asked(kind, one, capability).has_clusters


sizes = st.integers(1, 64)


@given(
    kind=st.sampled_from(["forward", "backward_data", "backward_filter"]),
    images=sizes,
    channels=sizes,
    filters=sizes,
    kernel=st.sampled_from([1, 3]),
    grouped=st.booleans(),
    number=st.sampled_from(["fp32", "fp16", "bf16"]),
    channels_last=st.booleans(),
    plan=st.builds(ConvolutionPlan, st.integers(0, 2**30), st.booleans()),
    multiprocessors=st.integers(1, 200),
)
def test_a_bound_is_never_below_what_cudnn_says_and_grows_with_the_card(
    kind, images, channels, filters, kernel, grouped, number, channels_last, plan, multiprocessors
) -> None:
    weight = (channels, 1, kernel, kernel) if grouped else (filters, channels, kernel, kernel)
    layer = ((images, channels, 14, 14), weight, 1, kernel // 2)
    one = convolution(layer, number, channels_last=channels_last)
    found = workspace_bound(kind, one, plan, multiprocessors)
    assert plan.workspace_bytes <= found <= workspace_bound(kind, one, plan, multiprocessors + 1)
    if plan.has_clusters:
        assert found >= plan.workspace_bytes + multiprocessors * LARGEST_TILE_BYTES
