"""The saved state of an optimizer and of a gradient scaler: what must hold before it is loaded.

PyTorch's own loading checks the numbers of parameters alone; a wrong shape or type would show in
the middle of an update, or not at all.
"""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

IMPLEMENTATION = ("fused", "foreach")
"""What the device may ask for; it is taken from the optimizer that is there."""

KEPT = {
    "Adam": ("step", "exp_avg", "exp_avg_sq"),
    "AdamW": ("step", "exp_avg", "exp_avg_sq"),
    "SGD": ("momentum_buffer",),
}
"""What each kind of optimizer keeps of a parameter."""

NUMBERS = ("step",)

SCALER_KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


def optimizer_problem(state: Any, optimizer: torch.optim.Optimizer) -> str | None:
    """What keeps a saved state from being this optimizer's, in words."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return "it holds no state of an optimizer"
    there, here = state.get("param_groups"), optimizer.state_dict()["param_groups"]
    if not isinstance(there, list) or len(there) != len(here):
        return "its optimizer has other groups of parameters"
    for one, other in zip(there, here, strict=True):
        if not isinstance(one, dict) or one.get("params") != other["params"]:
            return "its optimizer has other parameters"
        for name, value in other.items():
            if name not in IMPLEMENTATION and not _alike(one.get(name), value):
                return f"its optimizer's {name} is not possible"
    keys = KEPT.get(type(optimizer).__name__)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(parameters):
            return "its optimizer has other parameters"
        if not isinstance(values, dict) or not _fits(values, parameters[index], keys):
            return f"its optimizer's state of parameter {index} is not possible"
    return None


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The saved state under the implementation that is used now, which the device may ask for."""
    for there, here in zip(state["param_groups"], optimizer.param_groups, strict=True):
        there |= {name: here[name] for name in IMPLEMENTATION if name in here}
    optimizer.load_state_dict(state)


def scaler_problem(state: Any) -> str | None:
    """What keeps a saved state from being a scaler's, in words; an empty one was not in use."""
    if state == {}:
        return None
    if not isinstance(state, dict) or state.keys() != set(SCALER_KEYS):
        return "it holds no state of a gradient scaler"
    if all(_is_number(state[name]) and state[name] >= 0 for name in SCALER_KEYS):
        return None if state["scale"] > 0 else "its gradient scale is 0"
    return "its gradient scaler is not possible"


def _alike(there: Any, here: Any) -> bool:
    """True if a saved setting is of the kind that there is; numbers must be finite."""
    if isinstance(here, bool) or here is None:
        return there is None or isinstance(there, bool)
    if isinstance(here, int | float):
        return _is_number(there)
    if isinstance(here, tuple | list):
        return (
            isinstance(there, tuple | list)
            and len(there) == len(here)
            and all(map(_alike, there, here))
        )
    return type(there) is type(here)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _fits(values: dict[str, Any], parameter: Tensor, keys: Collection[str] | None) -> bool:
    """True if what is kept of a parameter is whole: of its shape, or one number as its steps are.

    Nothing is kept of a parameter that never had a gradient.
    """
    if values and keys is not None and values.keys() != set(keys):
        return False
    for name, value in values.items():
        if name in NUMBERS:
            alone = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if not _is_number(alone) or alone < 0:
                return False
        elif value is not None and not (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.shape == parameter.shape
        ):
            return False
    return True
