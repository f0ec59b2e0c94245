"""Ops that PyTorch composes of several inside one: losses, softmax's backward, group norm.

aten/src/ATen/native, torch 2.11. Each was held against PyTorch's own code (`tests/driver/`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.simulate.kernels.elementwise import contiguous_dims, reduction_rows
from bench.simulate.kernels.row import Dims, KernelContext, KernelRefused, KernelRow

CROSS_ENTROPY = "aten.binary_cross_entropy.default"
SHRUNK_LOSSES = ("aten.mse_loss.default", "aten.smooth_l1_loss.default", CROSS_ENTROPY)
"""Their result is made for every number, and shrunk to one: it keeps the memory of all."""

LOGITS_CROSS_ENTROPY = "aten.binary_cross_entropy_with_logits.default"
HUBER = "aten.huber_loss.default"
REDUCED_AT: dict[str, int] = {
    **dict.fromkeys((*SHRUNK_LOSSES[:2], HUBER), 2),
    CROSS_ENTROPY: 3,
    LOGITS_CROSS_ENTROPY: 4,
}
"""The argument that says how a loss is reduced: 0 not at all, 1 (the default) mean, 2 sum."""

SOFTMAX_BACKWARD = ("aten._softmax_backward_data.default",)
GROUP_NORM = ("aten.native_group_norm.default",)
GROUP_NORM_BACKWARD = ("aten.native_group_norm_backward.default",)
ACCUMULATOR_BYTES = 4


def is_reduced(op: str, args: Sequence[Any]) -> bool:
    """True for a call of a loss that gives one number."""
    position = REDUCED_AT[op]
    return len(args) <= position or args[position] != 0


def _loss(op: str) -> Callable[[Sequence[Any]], Dims | None]:
    """Bytes of a loss before it is reduced, if it is."""

    def read(args: Sequence[Any]) -> Dims | None:
        if not is_reduced(op, args):
            return None
        return (int(args[0].numel()) * args[0].element_size(),)

    return read


def _reduced_loss(op: str) -> Callable[[Sequence[Any]], Dims | None]:
    return lambda args: contiguous_dims(args[0]) if is_reduced(op, args) else None


def _logits(args: Sequence[Any]) -> Dims:
    """Raises `KernelRefused` for weights, which take tensors of their own."""
    if any(weight is not None for weight in args[2:4]):
        raise KernelRefused("binary_cross_entropy_with_logits with weights, which has no rule")
    return (int(args[0].numel()) * args[0].element_size(),)


def _one_number(args: Sequence[Any]) -> Dims | None:
    return (args[0].element_size(),) if is_reduced(CROSS_ENTROPY, args) else None


def _bytes(dims: Dims, context: KernelContext) -> int:
    return dims[0]


def _loss_row(op: str, what: str, source: str, *, before: bool = False) -> KernelRow:
    return KernelRow(
        name=f"{what}: each number's",
        ops=(op,),
        dims=_loss(op),
        size=_bytes,
        source=source,
        before=before,
    )


def _group_norm(args: Sequence[Any]) -> Dims:
    """(images × channels, images × groups, 1 if there is a weight) of a group norm's forward."""
    return _group_numbers(args[3], args[4], args[5], args[6], args[1])


def _group_norm_backward(args: Sequence[Any]) -> Dims:
    """The same of its backward: (grad, input, mean, rstd, weight, N, C, HxW, group, mask)."""
    return _group_numbers(args[5], args[6], args[7], args[8], args[4])


def _group_numbers(images: int, channels: int, places: int, groups: int, weight: Any) -> Dims:
    if places == 1:
        raise KernelRefused("a group norm of one place a channel, which has no rule")
    return images * channels, images * groups, int(weight is not None)


def _group_row(
    ops: tuple[str, ...], what: str, size: Callable[[Dims], int], source: str
) -> KernelRow:
    return KernelRow(
        name=f"group norm{' backward' if ops is GROUP_NORM_BACKWARD else ''}: {what}",
        ops=ops,
        dims=_group_norm if ops is GROUP_NORM else _group_norm_backward,
        size=lambda dims, context: ACCUMULATOR_BYTES * size(dims),
        source=source,
    )


LOSS = "native/Loss.cpp"
GROUP_NORM_SOURCE = "cuda/group_norm_kernel.cu, GroupNormKernelImplInternal"
GROUP_NORM_BACKWARD_SOURCE = "cuda/group_norm_kernel.cu, GroupNormBackwardKernelImplInternal"

COMPOSED_ROWS = (
    _loss_row(SHRUNK_LOSSES[0], "mse loss", f"{LOSS}, mse_loss_out"),
    *reduction_rows("mse loss", SHRUNK_LOSSES[:1], _reduced_loss(SHRUNK_LOSSES[0])),
    _loss_row(SHRUNK_LOSSES[1], "smooth l1 loss", f"{LOSS}, smooth_l1_loss_out"),
    *reduction_rows("smooth l1 loss", SHRUNK_LOSSES[1:2], _reduced_loss(SHRUNK_LOSSES[1])),
    _loss_row(HUBER, "huber loss", f"{LOSS}, huber_loss", before=True),
    *reduction_rows("huber loss", (HUBER,), _reduced_loss(HUBER)),
    KernelRow(
        name="binary cross-entropy: the reduced number",
        ops=(CROSS_ENTROPY,),
        dims=_one_number,
        size=_bytes,
        source="cuda/Loss.cu, binary_cross_entropy_out_cuda: loss.copy_(loss.mean())",
    ),
    *reduction_rows("binary cross-entropy", (CROSS_ENTROPY,), _reduced_loss(CROSS_ENTROPY)),
    KernelRow(
        name="binary cross-entropy of logits: log sigmoid",
        ops=(LOGITS_CROSS_ENTROPY,),
        dims=_logits,
        size=_bytes,
        source=f"{LOSS}, binary_cross_entropy_with_logits",
        before=True,
    ),
    _loss_row(
        LOGITS_CROSS_ENTROPY,
        "binary cross-entropy of logits",
        f"{LOSS}, binary_cross_entropy_with_logits",
        before=True,
    ),
    *reduction_rows(
        "binary cross-entropy of logits",
        (LOGITS_CROSS_ENTROPY,),
        _reduced_loss(LOGITS_CROSS_ENTROPY),
    ),
    KernelRow(
        name="softmax backward: gradient · output",
        ops=SOFTMAX_BACKWARD,
        dims=lambda args: (int(args[0].numel()) * args[0].element_size(),),
        size=_bytes,
        source="cuda/SoftMax.cu, softmax_backward_cuda_out: tmp",
    ),
    _group_row(GROUP_NORM, "scale", lambda dims: dims[0], GROUP_NORM_SOURCE),
    _group_row(GROUP_NORM, "shift", lambda dims: dims[0], GROUP_NORM_SOURCE),
    _group_row(GROUP_NORM_BACKWARD, "ds", lambda dims: dims[0], GROUP_NORM_BACKWARD_SOURCE),
    _group_row(GROUP_NORM_BACKWARD, "db", lambda dims: dims[0], GROUP_NORM_BACKWARD_SOURCE),
    _group_row(GROUP_NORM_BACKWARD, "c2", lambda dims: dims[1], GROUP_NORM_BACKWARD_SOURCE),
    _group_row(GROUP_NORM_BACKWARD, "c3", lambda dims: dims[1], GROUP_NORM_BACKWARD_SOURCE),
    _group_row(
        GROUP_NORM_BACKWARD, "c1", lambda dims: dims[0] * dims[2], GROUP_NORM_BACKWARD_SOURCE
    ),
)
