"""Ten training steps as others write them, small: each a `make_step` of `predict_step`.

The loops are written here from what their projects document; models and helpers are theirs.
"""

import copy
from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import NativeScaler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

Step = Callable[[], object]


def timm_step(device: torch.device) -> Step:
    """timm's training script: a ViT, AdamW, its scaler of fp16, label smoothing, clipping."""
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=3, drop_path_rate=0.1, num_classes=100
    ).to(device)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    criterion, scaler = LabelSmoothingCrossEntropy(0.1).to(device), NativeScaler()

    def step() -> None:
        images = torch.randn(16, 3, 64, 64).to(device, non_blocking=True)
        labels = torch.randint(0, 100, (16,)).to(device, non_blocking=True)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(images), labels)
        optimizer.zero_grad()
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())

    return step


def torchvision_step(device: torch.device) -> Step:
    """torchvision's classification reference: a ResNet, SGD, label smoothing, no scaler."""
    model = torchvision.models.resnet18(num_classes=100).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)

    def step() -> None:
        images = torch.randn(8, 3, 64, 64, device=device)
        labels = torch.randint(0, 100, (8,), device=device)
        output = model(images)
        loss = criterion(output, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    return step


def transformer_step(device: torch.device) -> Step:
    """torch.nn's encoder with a padding mask, dropout and Adam, in fp32."""
    layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.1, batch_first=True)
    body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).to(device)
    words, head = nn.Embedding(1000, 128).to(device), nn.Linear(128, 1000).to(device)
    parts = nn.ModuleList([body, words, head])
    optimizer = torch.optim.Adam(parts.parameters(), lr=1e-3)

    def step() -> Tensor:
        tokens = torch.randint(0, 1000, (16, 64), device=device)
        absent = torch.arange(64, device=device)[None] > torch.full((16, 1), 50, device=device)
        hidden = body(words(tokens), src_key_padding_mask=absent)
        loss = F.cross_entropy(head(hidden).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class Block(nn.Module):
    """A block of a decoder: causal attention and two layers, each after a norm."""

    def __init__(self, width: int, heads: int, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([norm(width), norm(width)])
        self.inwards, self.outwards = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, -1)
        parts = self.inwards(self.norms[0](x)).split(x.shape[-1], dim=-1)
        query, key, value = (part.view(shape).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.outwards(seen.transpose(1, 2).reshape(x.shape))
        result: Tensor = x + self.wide(self.norms[1](x))
        return result


class Language(nn.Module):
    """A decoder as GPT-2's: twelve blocks, words shared by both ends. (B, T) to (B, T, words)."""

    def __init__(self, words: int, width: int, heads: int, depth: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def language_step(device: torch.device) -> Step:
    """A language model as GPT-2's in bf16: fused AdamW, decay of matrices only, clipping."""
    model = Language(words=2000, width=96, heads=6).to(device)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": 0.1},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)

    def step() -> None:
        text = torch.randint(0, 2000, (16, 257), device=device)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(text[:, :-1])
            loss = F.cross_entropy(logits.view(-1, 2000), text[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class Residual(nn.Module):
    """Two convolutions, each after a group norm, and a way around them."""

    def __init__(self, from_channels: int, to_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(from_channels, to_channels, 3, padding=1)
        self.second = nn.Conv2d(to_channels, to_channels, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, from_channels), nn.GroupNorm(8, to_channels)])
        self.around = nn.Conv2d(from_channels, to_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(F.silu(self.norms[1](self.first(F.silu(self.norms[0](x))))))
        result: Tensor = inner + self.around(x)
        return result


class UNet(nn.Module):
    """Three levels down and up. (B, 3, S, S) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.end = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
        self.down = nn.ModuleList([Residual(32, 32), Residual(32, 64), Residual(64, 64)])
        self.up = nn.ModuleList([Residual(128, 64), Residual(128, 32), Residual(64, 32)])

    def forward(self, x: Tensor) -> Tensor:
        x, kept = self.begin(x), []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, kept.pop()], dim=1))
        result: Tensor = self.end(F.silu(x))
        return result


def unet_step(device: torch.device) -> Step:
    """A U-Net that takes noise away, as diffusion models are trained: a mean of squares, Adam."""
    model = UNet().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

    def step() -> None:
        images = torch.randn(8, 3, 32, 32, device=device)
        noise, share = torch.randn_like(images), torch.rand(8, 1, 1, 1, device=device)
        loss = F.mse_loss(model(share * images + (1 - share) * noise), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def network(width: int = 512) -> nn.Sequential:
    """Layers without a convolution."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.ReLU(), nn.LayerNorm(4 * width), nn.Linear(4 * width, 100)
    )


def accumulation_step(device: torch.device) -> Step:
    """fp16 with a gradient scaler, four micro-batches an update, RMSprop."""
    model = network().to(device)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cuda")

    def step() -> None:
        for _ in range(4):
            images = torch.randn(256, 512, device=device)
            labels = torch.randint(0, 100, (256,), device=device)
            with torch.autocast(device_type="cuda", dtype=torch.float16):
                loss = F.cross_entropy(model(images), labels) / 4
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def momentum_step(device: torch.device) -> Step:
    """SGD with Nesterov momentum, one parameter at a time, and a binary loss of several labels."""
    model = network().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=False
    )

    def step() -> None:
        optimizer.zero_grad()
        logits = model(torch.randn(300, 512, device=device))
        F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
        optimizer.step()

    return step


def ema_step(device: torch.device) -> Step:
    """A running mean of the weights that teaches, as in self-distillation."""
    model = network(256).to(device)
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    first = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        images = torch.randn(512, 256, device=device)
        with torch.no_grad():
            taught = (mean(images) + first(images)).softmax(-1)
        loss = F.kl_div(model(images).log_softmax(-1), taught, reduction="batchmean")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean.update_parameters(model)

    return step


class LowRank(nn.Module):
    """A frozen layer and a trained product of two thin matrices beside it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        beside = F.linear(F.linear(F.dropout(x.float(), 0.05, self.training), self.down), self.up)
        result: Tensor = self.layer(x) + beside.to(x.dtype)
        return result


def low_rank_step(device: torch.device) -> Step:
    """LoRA: frozen weights in bf16, thin trained ones beside them in fp32."""
    model = Language(words=1000, width=128, heads=4, depth=4).to(torch.bfloat16)
    model.requires_grad_(False)
    for block in model.blocks:
        assert isinstance(block, Block)
        block.inwards = LowRank(block.inwards, 8)  # type: ignore[assignment]
    model.to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        text = torch.randint(0, 1000, (8, 129), device=device)
        logits = model(text[:, :-1]).float()
        F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def clipping_step(device: torch.device) -> Step:
    """Checkpointed blocks with RMS norms; gradients are clipped by norm and by value."""
    blocks = nn.ModuleList(Block(128, 4, nn.RMSNorm) for _ in range(4)).to(device)
    optimizer = torch.optim.Adagrad(blocks.parameters(), lr=1e-2)

    def step() -> None:
        x = torch.randn(8, 100, 128, device=device)
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False)
        F.smooth_l1_loss(x, torch.zeros_like(x)).backward()
        nn.utils.clip_grad_norm_(blocks.parameters(), 1.0)
        nn.utils.clip_grad_value_(blocks.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()

    return step


STEPS: dict[str, Callable[[torch.device], Step]] = {
    "timm: ViT, fp16, scaler, label smoothing, clipping": timm_step,
    "torchvision: ResNet-18, SGD, label smoothing": torchvision_step,
    "torch.nn's encoder, padding mask, dropout, Adam": transformer_step,
    "language model as GPT-2's, bf16, fused AdamW": language_step,
    "U-Net, group norm, mean of squares, Adam": unet_step,
    "fp16, scaler, four micro-batches, RMSprop": accumulation_step,
    "SGD with Nesterov momentum, binary loss": momentum_step,
    "running mean of the weights teaches, AdamW": ema_step,
    "LoRA beside frozen bf16 weights, AdamW": low_rank_step,
    "clipping by norm and value, checkpointed, Adagrad": clipping_step,
}
"""By what they do."""
