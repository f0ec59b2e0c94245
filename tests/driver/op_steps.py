"""Ops in groups, forward and backward: for each group a step in which each op runs once.

What `bench/simulate/user_step/known_ops.py` names and the kernel table has rows for stands here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Op = Callable[[Tensor], Tensor]

IN_PLACE = (
    *("ReLU", "ReLU6", "LeakyReLU", "SiLU", "Hardswish", "Hardsigmoid", "Hardtanh", "ELU"),
    *("CELU", "SELU", "Mish", "Threshold"),
)


def _each(shape: Sequence[int], ops: Mapping[str, Op], dtype: torch.dtype = torch.float32) -> Any:
    """A step that takes the gradient of the squares of each op's result."""

    def make_step(device: torch.device) -> Callable[[], None]:
        x = torch.randn(*shape, device=device, dtype=dtype, requires_grad=True)

        def step() -> None:
            for op in ops.values():
                result = op(x)
                if result.requires_grad:
                    (result * result).sum().backward()
                x.grad = None

        return step

    return make_step


def _modules(shape: Sequence[int], modules: Sequence[Callable[[], nn.Module]], amp: bool) -> Any:
    """A step of modules that are built for it, with autocast to fp16 or without."""

    def make_step(device: torch.device) -> Callable[[], None]:
        built = [module().to(device) for module in modules]
        x = torch.randn(*shape, device=device, requires_grad=True)

        def step() -> None:
            for module in built:
                with torch.autocast("cuda", torch.float16, enabled=amp):
                    result = module(x)
                (result.float() ** 2).sum().backward()
                x.grad = None
                module.zero_grad()

        return step

    return make_step


def _attention(
    dtype: torch.dtype,
    *,
    depth: int = 32,
    length: int = 64,
    keys: int | None = None,
    mask: str = "",
    dropout: float = 0.0,
    only: SDPBackend | None = None,
) -> Any:
    def make_step(device: torch.device) -> Callable[[], None]:
        query = torch.randn(2, 4, length, depth, device=device, dtype=dtype, requires_grad=True)
        places = keys or length
        key = torch.randn(2, 4, places, depth, device=device, dtype=dtype, requires_grad=True)
        masks = {
            "": None,
            "bool": torch.ones(2, 1, length, places, dtype=torch.bool, device=device),
            "added": torch.zeros(length, places, device=device, dtype=dtype),
        }
        chosen = [only] if only else [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]

        def step() -> None:
            with sdpa_kernel([*chosen, SDPBackend.MATH] if not only else chosen):
                seen = F.scaled_dot_product_attention(query, key, key, masks[mask], dropout)
            (seen.transpose(1, 2).reshape(2, length, -1) ** 2).sum().backward()
            query.grad = key.grad = None

        return step

    return make_step


def _in_place(name: str) -> nn.Module:
    """An activation that writes over what a layer before it gives."""
    arguments = (0.1, 0.0) if name == "Threshold" else ()
    return nn.Sequential(nn.Linear(1000, 100), getattr(nn, name)(*arguments, inplace=True))


def _zeros(x: Tensor, *shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.int64, device=x.device)


LOSSES: dict[str, Op] = {
    "mse": lambda x: F.mse_loss(x, torch.zeros_like(x)),
    "mse of all": lambda x: F.mse_loss(x, torch.zeros_like(x), reduction="none"),
    "mse sum": lambda x: F.mse_loss(x, torch.zeros_like(x), reduction="sum"),
    "smooth l1": lambda x: F.smooth_l1_loss(x, torch.zeros_like(x)),
    "huber": lambda x: F.huber_loss(x, torch.zeros_like(x)),
    "l1": lambda x: F.l1_loss(x, torch.zeros_like(x)),
    "binary": lambda x: F.binary_cross_entropy(x.sigmoid(), torch.ones_like(x)),
    "logits": lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x)),
    "divergence": lambda x: F.kl_div(x.log_softmax(-1), torch.ones_like(x), reduction="sum"),
    "smoothed": lambda x: F.cross_entropy(x, _zeros(x, len(x)), label_smoothing=0.1),
    "shares": lambda x: F.cross_entropy(x, torch.ones_like(x).softmax(-1)),
    "places": lambda x: F.cross_entropy(x.view(4, 10, -1, 16), _zeros(x, 4, x.numel() // 640, 16)),
}

REDUCED: dict[str, Op] = {
    "mean": lambda x: x.mean(),
    "mean of halves": lambda x: x.half().mean(),
    "amax": lambda x: x.amax(-1),
    "amax of all": lambda x: x.detach().amax(),
    "max": lambda x: x.max(-1).values,
    "largest": lambda x: x.detach().max(),
    "argmax": lambda x: x.argmax(-1).float(),
    "std": lambda x: x.std(),
    "var": lambda x: x.var(-1),
    "norm": lambda x: x.norm(),
    "norms": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "any": lambda x: (x > 0).any().float(),
    "all": lambda x: (x > 0).all(-1).float(),
    "any number": lambda x: x.detach().any().float(),
    "count": lambda x: (x.argmax(-1) == 3).sum().float(),
    "counts": lambda x: (x > 0).sum(-1).float(),
    "softmax": lambda x: x.softmax(-1),
}

MOVED: dict[str, Op] = {
    "gather": lambda x: x.gather(1, _zeros(x, 64, 3)),
    "index_select": lambda x: x.index_select(0, _zeros(x, 5)),
    "index_add": lambda x: torch.zeros_like(x).index_add(0, _zeros(x, 64), x),
    "one_hot": lambda x: x * F.one_hot(_zeros(x, 64), 1000),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "tril": lambda x: x.tril(),
    "sort": lambda x: x.sort(-1).values,
    "cat": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "stack": lambda x: torch.stack(x.split(8)),
    "unbind": lambda x: torch.stack(x.unbind(0)[:4]),
    "pad": lambda x: F.pad(x, (1, 2)),
    "roll": lambda x: x.roll(1, 0),
    "flip": lambda x: x.flip(0),
    "repeat": lambda x: x.repeat(2, 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
    "expand": lambda x: x[:, None].expand(64, 3, 1000) * 1.0,
    "outer": lambda x: torch.outer(x[0], x[0]),
    "drawn": lambda x: x + torch.rand_like(x) + torch.randn(1000, device=x.device),
    "dropout": lambda x: F.dropout(x, 0.1),
    "cosine": lambda x: F.cosine_similarity(x, x.detach()),
}

PRODUCTS: dict[str, Op] = {
    "einsum": lambda x: torch.einsum("bnd,bmd->bnm", x, x),
    "four dimensions": lambda x: x.view(8, 4, 25, 64) @ x.view(8, 4, 25, 64).transpose(-1, -2),
    "bmm": lambda x: torch.bmm(x, x.transpose(1, 2)),
    "vector": lambda x: x @ torch.ones(64, device=x.device),
    "turned": lambda x: torch.cat([-x[..., 32:], x[..., :32]], -1) * x.cos(),
    "a sum of products": lambda x: (x[0] @ torch.ones(64, 30, device=x.device)).sum(),
    "a sum of batches": lambda x: torch.bmm(x, x.transpose(1, 2).contiguous()).sum(),
    "every other": lambda x: x[0, :, ::2] @ x[0, :32, ::2],
    "permuted": lambda x: x.permute(2, 0, 1).reshape(64, -1),
}

NORMS: dict[str, Op] = {
    "of equal lengths": lambda x: torch.stack(torch._foreach_norm(list(x.split(3)))),
    "of unequal lengths": lambda x: torch.stack(torch._foreach_norm([x[0], x.view(-1), x[:2]])),
}


def _tokens(count: int, words: int) -> Op:
    """An embedding of so many tokens, as rows and as the transposed part of a larger tensor."""
    return lambda x: F.embedding(_zeros(x, count // 8 + 1, 8).t()[:, :-1], x[:words])


IMAGES = (4, 16, 12, 12)

STEPS: dict[str, Any] = {
    "losses": _each((64, 1000), LOSSES),
    "large losses": _each((640, 2000), LOSSES),
    "reductions": _each((64, 1000), REDUCED),
    "large reductions": _each((8, 300_000), REDUCED),
    "moved": _each((64, 1000), MOVED),
    "products": _each((8, 100, 64), PRODUCTS),
    **{
        f"norms of lists, {dtype}": _each((64, 3000), NORMS, dtype)
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
    },
    "few tokens": _each((500, 48), {"512": _tokens(512, 300)}),
    "many tokens": _each(
        (5000, 48),
        {str(count): _tokens(count, 5000) for count in (3080, 4096, 8192, 14344, 40000)},
    ),
    "fewer words": _each((5000, 48), {"90 words": _tokens(20000, 90)}, torch.bfloat16),
    "activations": _modules(
        (64, 1000),
        [
            *(nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.ELU, nn.Softplus),
            *(nn.Tanh, nn.Sigmoid, nn.Mish, nn.PReLU, nn.GLU),
        ],
        amp=False,
    ),
    "activations in place": _modules(
        (64, 1000),
        [partial(_in_place, name) for name in IN_PLACE],
        amp=False,
    ),
    **{
        f"layers, autocast {'on' if amp else 'off'}": _modules(
            (8, 100, 64),
            [
                *(lambda: nn.Linear(64, 10), lambda: nn.Linear(64, 10, bias=False)),
                *(lambda: nn.RMSNorm(64), lambda: nn.LayerNorm(64), lambda: nn.Dropout(0.1)),
            ],
            amp=amp,
        )
        for amp in (False, True)
    },
    "encoder": _modules(
        (8, 100, 64), [lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)], amp=False
    ),
    **{
        f"images, autocast {'on' if amp else 'off'}": _modules(
            IMAGES,
            [
                *(lambda: nn.GroupNorm(4, 16), lambda: nn.BatchNorm2d(16), lambda: nn.MaxPool2d(2)),
                *(lambda: nn.AvgPool2d(2), lambda: nn.AdaptiveAvgPool2d(3)),
                *(lambda: nn.AdaptiveAvgPool2d(1), lambda: nn.AdaptiveMaxPool2d(1)),
                *(lambda: nn.Upsample(scale_factor=2), lambda: nn.PixelShuffle(2)),
                lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
                lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
                lambda: nn.Dropout2d(0.1),
            ],
            amp=amp,
        )
        for amp in (False, True)
    },
    "flash": _attention(torch.bfloat16),
    "flash, dropout": _attention(torch.bfloat16, dropout=0.1),
    "flash, padded": _attention(torch.float16, depth=20),
    "flash, long": _attention(torch.bfloat16, length=600),
    "flash, other keys": _attention(torch.bfloat16, keys=40),
    "efficient": _attention(torch.float32, dropout=0.1),
    "efficient, mask": _attention(torch.float32, mask="bool"),
    "efficient, odd mask": _attention(torch.float32, mask="bool", length=61),
    "efficient, odd added mask": _attention(torch.float32, mask="added", length=61),
    "efficient, half, mask": _attention(torch.float16, mask="bool", dropout=0.1),
    "efficient, other keys": _attention(torch.float32, keys=600),
    "efficient, wide": _attention(torch.float32, depth=256, length=100),
    "math": _attention(torch.float32, depth=30, dropout=0.1),
    "math, mask": _attention(torch.float32, depth=30, mask="bool"),
    "math, half": _attention(torch.float16, only=SDPBackend.MATH),
}
"""By what they hold."""
