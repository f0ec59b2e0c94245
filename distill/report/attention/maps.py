"""Attention weights read out of a model that computes its attention in one fused kernel.

Such a kernel never holds the weights. Here the queries and keys that it is given are looked at on
their way in, whatever made them (norms, rotary positions, biases), and their softmax is computed on
the CPU, one layer and one image at a time: the device holds no more than the forward pass of one
image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distill.base.errors import UserError

Visit = Callable[[int, Tensor], object]
"""Called with a layer's number, from 0, and its weights (heads, tokens, tokens) on the CPU."""


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """How a model's tokens lie: `prefix` ones (class, distillation, registers), then the patches.

    `asked` are the prefix tokens that the answer is read from; none where it is a mean of patches.
    """

    prefix: int
    rows: int
    columns: int
    asked: tuple[int, ...]

    @property
    def count(self) -> int:
        """All tokens."""
        return self.prefix + self.rows * self.columns

    def seen(self, weights: Tensor) -> Tensor:
        """(…, tokens, tokens) → (…, rows, columns): how much the answer looks at each patch.

        In multiples of an even share of what goes to patches, so that the mean is 1. Without a
        class token it is the mean over the patches that look.
        """
        patches = self._looked_at(weights)[..., self.prefix :]
        even = patches / patches.mean(dim=-1, keepdim=True).clamp(min=torch.finfo().tiny)
        grid: Tensor = even.unflatten(-1, (self.rows, self.columns))
        return grid

    def on_patches(self, weights: Tensor) -> Tensor:
        """(…, tokens, tokens) → (…): the share that goes to patches; the rest is on the prefix."""
        return self._looked_at(weights)[..., self.prefix :].sum(dim=-1)

    def _looked_at(self, weights: Tensor) -> Tensor:
        """(…, tokens): the mean of the rows that the answer is read from."""
        rows = list(self.asked) or slice(self.prefix, None)
        return weights[..., rows, :].mean(dim=-2)


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """`layers`: of each block the weights (B, heads, tokens, tokens), fp32 on the CPU.

    Each row is what one token takes of all tokens and adds up to 1. `logits` are (B, classes).
    """

    layers: list[Tensor]
    tokens: TokenLayout
    logits: Tensor


def attention_maps(model: nn.Module, images: Tensor) -> AttentionMaps:
    """The attention of every block of `model` to each of `images` (B, C, S, S), normalised.

    The images are on the model's device. The model is left as it was. Raises `UserError` for a
    model without attention, or with one that is not from every token to every token.
    """
    tokens = token_layout(model)
    layers: list[list[Tensor]] = [[] for _ in _blocks(model)]
    logits = [
        visit_layers(model, image, lambda layer, weights: layers[layer].append(weights))
        for image in images
    ]
    return AttentionMaps(
        layers=[torch.stack(of) for of in layers], tokens=tokens, logits=torch.stack(logits)
    )


def visit_layers(model: nn.Module, image: Tensor, visit: Visit) -> Tensor:
    """Call `visit` with each layer's weights for one image (C, S, S); returns logits (classes,).

    A layer's weights are let go before the next one's are computed, but for what `visit` keeps.
    """
    tokens = token_layout(model)
    seen = _QueriesAndKeys(tokens, type(model).__name__, visit)
    with ExitStack() as undone:
        undone.enter_context(_fused_and_evaluating(model))
        for layer, block in enumerate(_blocks(model)):
            for hook in (
                block.register_forward_pre_hook(lambda *_, layer=layer: seen.enter(layer)),
                block.register_forward_hook(lambda *_: seen.leave()),
            ):
                undone.callback(hook.remove)
        undone.enter_context(torch.inference_mode())
        undone.enter_context(seen)
        logits: Tensor = model(image[None])
    return logits[0].float().cpu()


def token_layout(model: nn.Module) -> TokenLayout:
    """How the model's tokens lie, as timm's vision transformers say it of themselves."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    prefix = getattr(model, "num_prefix_tokens", None)
    if not _blocks(model) or not isinstance(grid, Sequence) or not isinstance(prefix, int):
        raise UserError(_no_maps(model))
    asked: tuple[int, ...] = ()
    if hasattr(model, "dist_token"):  # two heads answer, one from each token (DeiT)
        asked = (0, 1)
    elif getattr(model, "global_pool", None) == "token":
        asked = (0,)
    rows, columns = (int(side) for side in grid)
    return TokenLayout(prefix=prefix, rows=rows, columns=columns, asked=asked)


class _QueriesAndKeys(TorchFunctionMode):
    """Computes the weights of every attention kernel that is called inside a block."""

    def __init__(self, tokens: TokenLayout, model: str, visit: Visit) -> None:
        super().__init__()
        self.tokens, self.model, self.visit = tokens, model, visit
        self.layer: int | None = None
        self.calls = 0

    def enter(self, layer: int) -> None:
        """A block begins."""
        self.layer, self.calls = layer, 0

    def leave(self) -> None:
        """A block has ended; it must have had one attention."""
        self.layer = None
        if self.calls != 1:
            self._refuse()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention and self.layer is not None:
            self.calls += 1
            self.visit(self.layer, self._weights(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _weights(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """softmax(scale · q·kᵀ + mask) as `scaled_dot_product_attention` documents it, one image.

        The parameters are that function's own.
        """
        whole = (1, query.shape[1], self.tokens.count)
        if query.shape[:3] != whole or key.shape[:3] != whole or is_causal:
            self._refuse()
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        products = query[0].float().cpu() @ key[0].float().cpu().transpose(-2, -1) * factor
        if attn_mask is not None:
            bias = attn_mask.cpu()
            if bias.dtype == torch.bool:
                bias = torch.zeros(bias.shape).masked_fill(~bias, -torch.inf)
            products += bias.float().reshape(bias.shape[-3:])
        return products.softmax(dim=-1)

    def _refuse(self) -> None:
        raise UserError(
            f"{self.model} does not look from every token at every other one, once in each of its "
            "blocks, so that it has no attention maps of the whole image."
        )


@contextmanager
def _fused_and_evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation, each attention in its fused form; as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    unfused = [module for module in model.modules() if getattr(module, "fused_attn", True) is False]
    try:
        model.eval()
        for module in unfused:
            module.fused_attn = True  # type: ignore[assignment]
        yield
    finally:
        for module in unfused:
            module.fused_attn = False  # type: ignore[assignment]
        for module in training:
            module.training = True


def _blocks(model: nn.Module) -> list[nn.Module]:
    blocks = getattr(model, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []


def _no_maps(model: nn.Module) -> str:
    """The sentence for a model whose tokens are not those of a vision transformer."""
    name = type(model).__name__
    kinds = sorted({type(module).__name__ for module in model.modules()})
    attention = [kind for kind in kinds if "attention" in kind.lower() or "attn" in kind.lower()]
    if not attention:
        return f"{name} has no attention."
    return (
        f"{name} has no attention from every patch to every other one ({', '.join(attention)}): "
        "there is no map of the whole image."
    )
