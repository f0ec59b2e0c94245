"""Models by timm name, built in the shape that a recipe asks for.

timm's modules are used as they are: nothing is patched, and state-dict keys stay timm's.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean
from distill.spec.candidate import Candidate, Checkpointing, ModelSpec
from distill.step.checkpointing import checkpoint_blocks

ALIASES = {
    "vit_base": "vit_base_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_tiny": "vit_tiny_patch16_224",
}

HEADS = ("head.bias", "fc.bias")
"""Where they keep one number a class."""


@dataclass(frozen=True)
class Normalisation:
    """The normalisation a model expects: (pixel / 255 − mean) / std, one value a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def get_vit_model(
    model_name: str,
    num_classes: int,
    pretrained: bool = False,
    gradient_checkpointing: Checkpointing | bool = 0,
    *,
    image_size: int | None = None,
    patch_size: int | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    channels: int = 3,
    weights: Path | None = None,
    patch_drop_rate: float = 0.0,
) -> nn.Module:
    """Build `vit_base`, `vit_small`, `vit_tiny` or any timm model for images (B, channels, S, S).

    `gradient_checkpointing` k: 0 off, k ≥ 1 checkpoints blocks 0, k, 2k, …, `True` means 1;
    `cheap` checkpoints every block but keeps what its products made.
    The shape arguments override timm's own. Pretrained weights are timm's default ones for that
    name, or those in the safetensors file `weights`; either way the head is replaced where the
    classes differ. In training `patch_drop_rate` of an image's patches, drawn anew each time, are
    left out (Liu et al. 2023, PatchDropout). Returns a module that maps float images to
    logits (B, num_classes). Raises `UserError` for an unknown name, a shape that the model does not
    have, weights that can't be had, blocks or patches that can't be checkpointed or left out.
    """
    shape = {
        "img_size": image_size,
        "patch_size": patch_size,
        "depth": depth,
        "embed_dim": width,
        "num_heads": heads,
        "patch_drop_rate": patch_drop_rate or None,
    }
    given: dict[str, Any] = {name: value for name, value in shape.items() if value is not None}
    model = _create(
        ALIASES.get(model_name, model_name), num_classes, channels, pretrained, given, weights
    )
    checkpoint_blocks(model, gradient_checkpointing)
    return model


def build(
    spec: ModelSpec,
    *,
    pretrained: bool = False,
    checkpointing: Checkpointing = 0,
    weights: Path | None = None,
    patch_drop_rate: float = 0.0,
) -> nn.Module:
    """`get_vit_model` for a spec, with the normalisation that it names."""
    model = get_vit_model(
        spec.name,
        spec.classes,
        pretrained,
        checkpointing,
        image_size=spec.image_size,
        patch_size=spec.patch_size,
        depth=spec.depth,
        width=spec.width,
        heads=spec.heads,
        channels=spec.channels,
        weights=weights,
        patch_drop_rate=patch_drop_rate,
    )
    if spec.mean is not None and spec.std is not None:
        config = cast(dict[str, Any], getattr(model, "pretrained_cfg", None) or {})
        model.pretrained_cfg = config | {"mean": spec.mean, "std": spec.std}  # type: ignore[assignment]
    return model


def build_student(
    candidate: Candidate, *, pretrained: bool = False, weights: Path | None = None
) -> nn.Module:
    """The model that the candidate trains."""
    return build(
        candidate.student,
        pretrained=pretrained,
        checkpointing=candidate.checkpointing,
        weights=weights,
        patch_drop_rate=candidate.patch_drop_rate,
    )


def timm_arguments(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """The name and the arguments with which timm builds the model, its number of classes aside."""
    shape = {
        "img_size": spec.image_size,
        "patch_size": spec.patch_size,
        "depth": spec.depth,
        "embed_dim": spec.width,
        "num_heads": spec.heads,
    }
    given = {key: value for key, value in shape.items() if value is not None}
    name = ALIASES.get(spec.name, spec.name)
    with torch.device("meta"):
        return name, _constructed(name, False, {**given, "in_chans": spec.channels})[1]


def normalisation_of(model: nn.Module, channels: int) -> Normalisation:
    """The model's own mean and std; for another number of channels their average, repeated."""
    config = cast(dict[str, Any], getattr(model, "pretrained_cfg", None) or {})
    mean = tuple(config.get("mean", (0.5, 0.5, 0.5)))
    std = tuple(config.get("std", (0.5, 0.5, 0.5)))
    if len(mean) != channels:
        mean = (sum(mean) / len(mean),) * channels
        std = (sum(std) / len(std),) * channels
    return Normalisation(mean, std)


def load_state(model: nn.Module, state: dict[str, Any], source: str) -> None:
    """Put weights into a model of the same shape; `source` is the file they are from.

    Raises `UserError` where they are another model's, or one's for other classes.
    """
    for name in HEADS:
        here = model.state_dict().get(name)
        if here is not None and name in state and state[name].shape[:1] != here.shape[:1]:
            there = state[name].shape[:1].numel()
            raise UserError(
                f"{source} tells {there} classes apart, the data has {len(here)}. Use "
                "the data that it was trained on, or start over with --fresh or another --out."
            )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source} does not hold this model's weights: {reason}.") from error


def parameter_count(model: nn.Module) -> int:
    """The number of numbers that the model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def check_model_name(name: str) -> None:
    """Refuse, as a `UserError` with the nearest names, one that timm does not know."""
    import timm  # takes seconds, and whoever reads a kept prediction builds no model

    if not timm.is_model(ALIASES.get(name, name)):
        near = did_you_mean(name, [*ALIASES, *timm.list_models()])
        raise UserError(f"timm has no model {name!r}.{near}")


def _create(
    name: str,
    classes: int,
    channels: int,
    pretrained: bool,
    shape: dict[str, Any],
    weights: Path | None,
) -> nn.Module:
    check_model_name(name)
    with _failures_told(name, shape, weights, pretrained=pretrained):
        if weights is not None:
            shape["pretrained_cfg_overlay"] = _offline(weights)
        values = {"num_classes": classes, "in_chans": channels, **shape}
        model, _ = _constructed(name, pretrained or weights is not None, values)
        if "patch_drop_rate" in shape and not _drops_patches(model):
            raise _no_patches(name)
        if weights is not None:
            _check_held(weights, model)
        return model


def _constructed(
    name: str, begun: bool, values: dict[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """timm's model, and of the arguments those that its constructor takes.

    Some take images of any size, and know no argument that says it.
    """
    import timm  # takes seconds, and whoever reads a kept prediction builds no model

    try:
        return timm.create_model(name, pretrained=begun, **values), values
    except TypeError as error:
        if "patch_drop_rate" in str(error):
            raise _no_patches(name) from error
        if "img_size" not in str(error):
            raise
    rest = {key: value for key, value in values.items() if key != "img_size"}
    return timm.create_model(name, pretrained=begun, **rest), rest


def _drops_patches(model: nn.Module) -> bool:
    """True if timm built its `PatchDropout`; some models take the argument in vain."""
    return any(type(part).__name__.startswith("PatchDropout") for part in model.modules())


def _no_patches(name: str) -> UserError:
    return UserError(
        f"{name} can't leave patches out. Leave patch_drop_rate out of its stage, or use a vision "
        "transformer."
    )


@contextlib.contextmanager
def _failures_told(
    name: str, shape: dict[str, Any], weights: Path | None, *, pretrained: bool
) -> Iterator[None]:
    """Tell each way in which a model can't be built as a `UserError` with its cure."""
    from huggingface_hub.errors import (  # timm has loaded it; not needed without timm
        HfHubHTTPError,
        LocalEntryNotFoundError,
    )

    try:
        yield
    except SafetensorError as error:
        raise UserError(f"{weights} is no whole safetensors file: {error}.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"The pretrained weights of {name} are not in the cache and can't be fetched. "
            "Connect to the network once, point HF_HOME at a cache that has them, name a file of "
            "them with --weights FILE, or use --no-pretrained."
        ) from error
    except (KeyError, RuntimeError) as error:
        if not (pretrained or weights):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{weights or 'What was fetched'} does not hold weights of {name}: {reason}."
        ) from error
    except (TypeError, AssertionError, ValueError, ArithmeticError, IndexError) as error:
        raise UserError(f"{name} can't be built with {shape}: {error}.") from error


def _offline(weights: Path) -> dict[str, Any]:
    """The arguments with which timm reads weights from a file; no format that can run code.

    A head for as many classes as are wanted is kept, one for others is begun anew.
    """
    if weights.suffix != ".safetensors":
        raise UserError(f"{weights} is not a .safetensors file, the only kind that is read.")
    if not weights.is_file():
        raise UserError(f"There is no file {weights}.")
    with safe_open(weights, "pt") as tensors:
        heads = set(HEADS) & set(tensors.keys())
        classes = [sum(tensors.get_slice(name).get_shape()[:1]) for name in heads]
    return {"file": str(weights)} | ({"num_classes": classes[0]} if classes else {})


def _check_held(weights: Path, model: nn.Module) -> None:
    """timm passes over what a file lacks when it begins a new head; that is refused here."""
    with safe_open(weights, "pt") as tensors:
        held = set(tensors.keys())
    lacking = [name for name in model.state_dict() if name not in held]
    lacking = [name for name in lacking if not name.startswith(("head.", "fc."))]
    if lacking:
        raise RuntimeError(f"of this model's tensors it lacks {len(lacking)}, as {lacking[0]}")
