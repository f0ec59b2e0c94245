"""Attention maps are the model's own, their rollout is the paper's, and a picture shows them."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from distill.base.errors import UserError
from distill.data.dataset import Split
from distill.report.attention import (
    TokenLayout,
    attention_maps,
    extract_attention_rollout,
    visualize_attention_map,
    visualize_multi_head_attention,
)
from distill.report.attention.drawn import few_test_images
from distill.report.attention.image_attention import Shown, Viewer
from distill.report.attention.pictures import MAP_COLOURS, Panel, draw_panels
from distill.spec.candidate import InputSpec
from distill.step.checkpointing import checkpoint_blocks
from distill.step.models import Normalisation
from distill.step.prepare import Prepare

SMALL = {
    "img_size": 32,
    "patch_size": 8,
    "depth": 2,
    "embed_dim": 32,
    "num_heads": 2,
    "num_classes": 5,
}


def small(name: str = "vit_tiny_patch16_224", **changed: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **(SMALL | changed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # attention that is far from even
    return model


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def by_hand(model: nn.Module, pixels: Tensor) -> list[Tensor]:
    """softmax(q·kᵀ / √d) of each block, from the weights of its `qkv`, in float64."""
    model = model.double().eval()
    found = []
    with torch.no_grad():
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels.double()))))
        for block in model.blocks:
            y, attn = block.norm1(x), block.attn
            made = torch.nn.functional.linear(y, attn.qkv.weight, attn.qkv.bias)
            q, k, _ = made.unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
            products = torch.einsum("bhid,bhjd->bhij", attn.q_norm(q), attn.k_norm(k)) / 4
            found.append(products.exp() / products.exp().sum(dim=-1, keepdim=True))
            x = block(x)
    return found


@pytest.mark.parametrize("changed", [{}, {"qk_norm": True, "reg_tokens": 4, "init_values": 0.5}])
@pytest.mark.parametrize("fused", [True, False])
def test_weights_are_queries_times_keys_whatever_kernel_trains(
    changed: dict[str, object], fused: bool
) -> None:
    model = small(**changed)
    checkpoint_blocks(model, 1)
    for block in model.blocks:
        block.attn.fused_attn = fused
    maps = attention_maps(model, images())
    assert all(block.attn.fused_attn is fused for block in model.blocks) and model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert maps.layers[0].shape == (2, 2, maps.tokens.count, maps.tokens.count)
    with torch.no_grad():
        assert torch.allclose(model.eval()(images()), maps.logits, atol=1e-5)
    for theirs, ours in zip(by_hand(model, images()), maps.layers, strict=True):
        assert torch.allclose(theirs.float(), ours, atol=1e-5)
        assert ours.std() > 0.01


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224"])
def test_biases_and_rotary_positions_are_in_the_weights(name: str) -> None:
    """timm's own unfused form, whose dropout is handed the weights, has the same."""
    model = small(name).eval()
    maps = attention_maps(model, images(1))
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(images(1))
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(seen, maps.layers, strict=True))


@pytest.mark.parametrize(
    ("name", "changed", "prefix", "asked"),
    [
        ("vit_tiny_patch16_224", {}, 1, (0,)),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, 0, ()),
        ("vit_tiny_patch16_224", {"reg_tokens": 3, "global_pool": "avg"}, 4, ()),
        ("deit_tiny_distilled_patch16_224", {}, 2, (0, 1)),
        ("vit_base_patch16_siglip_224", {}, 0, ()),
    ],
)
def test_an_answer_looks_from_the_tokens_that_it_is_read_from(
    name: str, changed: dict[str, object], prefix: int, asked: tuple[int, ...]
) -> None:
    maps = attention_maps(small(name, **changed), images(1))
    assert maps.tokens == TokenLayout(prefix=prefix, rows=4, columns=4, asked=asked)
    weights = maps.layers[-1][0]
    rows = weights[:, list(asked)] if asked else weights[:, prefix:]
    patches = rows.mean(dim=1)[:, prefix:]
    assert torch.allclose(maps.tokens.on_patches(weights), patches.sum(dim=1))
    even = patches / patches.sum(dim=1, keepdim=True) * 16
    assert torch.allclose(maps.tokens.seen(weights), even.reshape(2, 4, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet18", "ResNet has no attention."),
        ("swin_tiny_patch4_window7_224", r"\(WindowAttention\): there is no map of the whole"),
        ("cait_xxs24_224", "Cait does not look from every token at every other one"),
        ("vit_dlittle_patch16_reg1_gap_256", "does not look from every token"),
    ],
)
def test_a_model_without_maps_of_the_whole_image_is_one_sentence(name: str, sentence: str) -> None:
    changed = {"depth": 1} if name.startswith(("cait", "vit")) else {}
    size = 32 if name == "resnet18" else int(name[-3:])
    model = timm.create_model(name, num_classes=2, **changed)
    with pytest.raises(UserError, match=sentence):
        attention_maps(model, torch.zeros(1, 3, size, size))
    assert not any(module._forward_hooks for module in model.modules())


def test_rollout_as_worked_out_by_hand() -> None:
    """Two layers of two tokens; the first one's two heads have the mean [[.5 .5] [.2 .8]]."""
    first = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]], [[0.0, 1.0], [0.2, 0.8]]]])
    second = np.array([[[[0.4, 0.6], [1.0, 0.0]]]])
    # (mean + I) / 2: [[.75 .25] [.1 .9]] and [[.7 .3] [.5 .5]]; the second times the first
    expected = torch.tensor([[[0.555, 0.445], [0.425, 0.575]]])
    assert torch.allclose(extract_attention_rollout([first, second]), expected)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 6), st.integers(0, 99))
def test_every_row_of_a_rollout_adds_up_to_one(
    layers: int, heads: int, tokens: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_ = [torch.rand(heads, tokens, tokens, generator=generator) for _ in range(layers)]
    rollout = extract_attention_rollout([layer.softmax(dim=-1) for layer in given_])
    assert torch.allclose(rollout.sum(dim=-1), torch.ones(tokens), atol=1e-5)


def test_what_is_no_attention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for wrong in ([], [torch.zeros(2, 3, 4)], [torch.zeros(1, 3, 3), torch.zeros(1, 4, 4)]):
        with pytest.raises(UserError):
            extract_attention_rollout(wrong)
    weights, image = torch.full((2, 17, 17), 1 / 17), torch.zeros(3, 8, 8)
    for call in (
        lambda: visualize_attention_map(weights, image, 2, path),
        lambda: visualize_attention_map(weights, torch.zeros(8, 8), 0, path),
        lambda: visualize_attention_map(torch.zeros(17, 17), image, 0, path),
        lambda: visualize_multi_head_attention(weights, 3, path),
        lambda: visualize_multi_head_attention(
            weights, 2, path, tokens=TokenLayout(prefix=0, rows=4, columns=4, asked=())
        ),
    ):
        with pytest.raises(UserError):
            call()
    assert not path.exists()


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255


def test_a_map_lies_over_the_image_and_grows_lighter(tmp_path: Path) -> None:
    """One patch has all the attention: it is the lightest, in colour and in grey."""
    weights = torch.full((1, 5, 5), 1e-3)
    weights[0, 0, 3] = 1.0  # after the class token: row 1, column 0
    visualize_attention_map(weights, torch.full((3, 4, 4), 0.5), 0, tmp_path / "one.png")
    grey = pixels_of(tmp_path / "one.png").mean(axis=2)
    lightness = MAP_COLOURS(np.linspace(0, 1, 256))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > 0).all()
    half = grey[-260:-20, 262:502]  # the second panel
    quarters = [part.mean() for line in np.split(half, 2) for part in np.split(line, 2, axis=1)]
    assert np.argmax(quarters) == 2 and sorted(quarters)[2] < 0.5


def test_the_grid_has_a_panel_for_each_head_with_and_without_the_image(tmp_path: Path) -> None:
    weights = torch.rand(1, 7, 17, 17, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    visualize_multi_head_attention(weights, 7, tmp_path / "heads.png", image=torch.ones(1, 8, 8))
    visualize_multi_head_attention(weights[0].numpy(), 5, str(tmp_path / "plain.png"))
    grid, line = pixels_of(tmp_path / "heads.png"), pixels_of(tmp_path / "plain.png")
    assert grid.shape[0] > 1.5 * line.shape[0]
    assert line.shape[1] > grid.shape[1]  # five beside each other, and four


def viewer(**changed: object) -> Viewer:
    normalisation = Normalisation((0.2, 0.4, 0.6), (0.3, 0.2, 0.1))
    spec = InputSpec(source_size=32)
    return Viewer(
        model=small(**changed),
        prepare=Prepare(spec, 32, normalisation, torch.device("cpu")),
        names=("a", "b", "c", "$d$", "e"),
        several=False,
    )


def test_a_look_shows_the_image_as_the_model_saw_it_and_its_answer() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    looker = viewer()
    look = looker.look(Shown(pixels=drawn, caption="an image"), layer=0)
    assert np.allclose(look.image, drawn.transpose(1, 2, 0) / 255, atol=1e-6)
    floats = (torch.from_numpy(drawn).float() / 255 - look_mean(looker)) / look_std(looker)
    maps = attention_maps(looker.model, floats[None])
    assert np.allclose(look.heads, maps.tokens.seen(maps.layers[0][0]), atol=1e-4)
    rollout = maps.tokens.seen(extract_attention_rollout(maps.layers)[0])
    assert np.allclose(look.rollout, rollout, atol=1e-4)
    best = int(maps.logits[0].argmax())
    assert look.answer.startswith(f"answer {looker.names[best]} (")


def look_mean(looker: Viewer) -> Tensor:
    return looker.prepare.mean / 255


def look_std(looker: Viewer) -> Tensor:
    return looker.prepare.std / 255


def test_values_that_are_not_finite_are_refused() -> None:
    looker = viewer()
    with torch.no_grad():
        looker.model.blocks[0].attn.qkv.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        looker.look(Shown(pixels=np.zeros((3, 32, 32), np.uint8), caption=""))


def test_few_images_of_different_classes_are_the_same_ones_each_time() -> None:
    labels = np.array([2, 2, 0, 1, 0, 3, 4, 4])
    test = Split(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1), labels)
    shown = few_test_images(test, tuple("vwxyz"))
    assert [one.caption for one in shown] == [
        f"test image {place}\nclass {name}"
        for place, name in [(2, "v"), (3, "w"), (0, "x"), (6, "z")]
    ]
    several = Split(np.zeros((6, 1, 1, 1), np.uint8), np.eye(6, 5, dtype=np.int64))
    captions = [one.caption for one in few_test_images(several, tuple("vwxyz"))]
    assert captions[0].endswith("class v") and captions[-1].endswith("class none")


def test_names_that_are_formulas_or_in_other_scripts_are_drawn(tmp_path: Path) -> None:
    seen = np.ones((2, 2), np.float32)
    panels = [[Panel(title="$x_{$\n猫", image=None, seen=seen)]]
    draw_panels(tmp_path / "even.png", panels, "100 $ a year")
    assert (tmp_path / "even.png").stat().st_size > 1000
