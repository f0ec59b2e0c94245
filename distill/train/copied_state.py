"""The state of a model, an optimizer or a scaler, copied so that training may go on."""

import copy
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class HasState(Protocol):
    """A model, an optimizer, a scaler; or a copy of what they were."""

    def state_dict(self) -> dict[str, Any]:
        """All that is to be saved of it."""


@dataclass(frozen=True)
class CopiedState:
    """The state that something had, on the CPU."""

    state: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """The state as it was then."""
        return self.state


def copied(part: HasState) -> CopiedState:
    """The state as it is now, whatever is trained after."""
    return CopiedState(_copied(part.state_dict()))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, list):
        return [_copied(one) for one in value]
    if isinstance(value, dict):
        whole = copy.copy(value)  # with the versions that a module's state has as an attribute
        whole.update((key, _copied(one)) for key, one in value.items())
        return whole
    return value
