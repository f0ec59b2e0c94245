"""The type of a row of the kernel table, and all that its sizes may depend on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.simulate.torch_rules import TorchRules, installed_rules
from distill.spec.file_values import Owner
from distill.spec.pins import Pins
from distill.spec.profile import Target

Dims = tuple[int, ...]


class KernelRefused(Exception):
    """A kernel does not take what the model asks of it, or can't be predicted there, in words."""


@dataclass(frozen=True)
class KernelContext:
    """All that a row may depend on beyond the op's own dimensions."""

    target: Target
    pins: Pins
    deterministic: bool
    rules: TorchRules = field(default_factory=installed_rules)


def _dims_alone(dims: Dims, context: KernelContext) -> int:
    """The bytes of a copy, which `dims` reads whole."""
    return dims[0]


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One hidden allocation of one or more ops.

    `dims` reads from the op's arguments the numbers that `size` needs, or `None` where the row
    does not apply; without a `size` it reads the bytes. Each number must be a straight line in the
    batch size: at other batch sizes than the traced one the row is asked about the line. A size of
    0 is no allocation.
    `bound` is the most that it can be, where `size` is not certain.
    `outlives`, `kept_by`, `before` and `after_output` are as in `HiddenAllocation`.
    `under` tells which releases of torch have the row; all of them if it is `None`.
    """

    name: str
    ops: tuple[str, ...]
    dims: Callable[[Sequence[Any]], Dims | None]
    source: str
    size: Callable[[Dims, KernelContext], int] = _dims_alone
    bound: Callable[[Dims, KernelContext], int] | None = None
    owner: Owner = "temporaries"
    outlives: int | None = None
    kept_by: str | None = None
    before: bool = False
    after_output: int | None = None
    under: Callable[[TorchRules], bool] | None = None


def round_up(value: int, multiple: int) -> int:
    """`value` rounded up to a multiple."""
    return multiple * -(-value // multiple)


def ceil_div(value: int, by: int) -> int:
    """`value / by`, rounded up."""
    return -(-value // by)
