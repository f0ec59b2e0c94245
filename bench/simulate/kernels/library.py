"""Workspaces of cuBLAS, cublasLt and cuDNN.

A GEMM's workspace belongs to its handle and stream; handles belong to a thread, and backward
runs in a thread of its own. From torch 2.15 on it is the call's. A convolution's is taken from the
allocator and given back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from bench.simulate.kernels import cudnn
from bench.simulate.kernels.convolution import Convolution, ConvolutionPass
from bench.simulate.kernels.row import Dims, KernelContext, KernelRow
from bench.simulate.kernels.workspace_bound import workspace_bound
from distill.base.units import MIB
from distill.spec.candidate import Precision
from distill.spec.pins import cublas_workspace_bytes

ADDMM = "aten.addmm.default"
GEMMS = (
    ADDMM,
    "aten.mm.default",
    "aten.bmm.default",
    "aten.baddbmm.default",
    "aten.addmv.default",
    "aten.mv.default",
    "aten.dot.default",
)
CUBLASLT_WORKSPACE = MIB
CONVOLUTION = ("aten.convolution.default",)
CONVOLUTION_BACKWARD = ("aten.convolution_backward.default",)

NUMBERS: dict[torch.dtype, int] = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
NUMBER_NAMES: tuple[Precision, ...] = ("fp32", "fp16", "bf16")


def _always(args: Sequence[Any]) -> Dims:
    return ()


def _goes_to_cublaslt(args: Sequence[Any]) -> Dims | None:
    """addmm(bias, a, b) with a vector as bias is one cublasLt call (Blas.cpp, addmm_out_cuda)."""
    bias = args[0]
    return () if bias.dim() == 1 and bias.is_contiguous() else None


def _goes_to_cublas(op: str) -> Callable[[Sequence[Any]], Dims | None]:
    def read(args: Sequence[Any]) -> Dims | None:
        return None if op == ADDMM and _goes_to_cublaslt(args) is not None else ()

    return read


def _product_operand(position: int) -> Any:
    """Bytes of a matrix of a product that cuBLAS takes in neither order, and so is copied, else 0.

    The last two dimensions count; a batch may lie anyhow.
    """

    def read(args: Sequence[Any]) -> Dims:
        matrix = args[position]
        rows, columns = matrix.shape[-2:]
        down, right = matrix.stride()[-2:]
        in_columns = down == 1 and right >= max(1, rows)
        in_rows = right == 1 and down >= max(1, columns)
        return (0 if in_columns or in_rows else matrix.numel() * matrix.element_size(),)

    return read


def _convolution_dims(image: Any, weight: Any, rest: Sequence[Any]) -> Dims | None:
    """A convolution as numbers, where cuDNN may run it; `rest` is stride, padding, dilation, …"""
    stride, padding, dilation, transposed, _, groups = rest[:6]
    if transposed or image.dim() != 4 or image.dtype not in NUMBERS:
        return None
    last = _order(image, weight) is torch.channels_last
    return (
        *(int(size) for size in image.shape),
        *(int(size) for size in weight.shape),
        *stride,
        *padding,
        *dilation,
        NUMBERS[image.dtype],
        int(last),
        int(groups),
    )


def _order(image: Any, weight: Any) -> torch.memory_format:
    """The order that cuDNN computes in (ConvUtils.h, cudnn_conv_suggest_memory_format)."""
    suggested = {suggest_memory_format(image), suggest_memory_format(weight)}
    return torch.channels_last if torch.channels_last in suggested else torch.contiguous_format


def _copied(tensor: Any, order: torch.memory_format) -> Dims:
    """Bytes of `tensor.contiguous(order)`: 0 where it lies so already."""
    lies_well = tensor.is_contiguous(memory_format=order)
    return (0 if lies_well else tensor.numel() * tensor.element_size(),)


def _forward(args: Sequence[Any]) -> Dims | None:
    return _convolution_dims(args[0], args[1], args[3:])


def _backward(output: int) -> Any:
    """Dimensions of the gradient that is the `output`-th, where it is wanted."""

    def read(args: Sequence[Any]) -> Dims | None:
        wanted = args[10][output]
        return _convolution_dims(args[1], args[2], args[4:]) if wanted else None

    return read


def _convolution(dims: Dims) -> Convolution:
    return Convolution(
        input=dims[0:4],
        weight=dims[4:8],
        stride=dims[8:10],
        padding=dims[10:12],
        dilation=dims[12:14],
        number=NUMBER_NAMES[dims[14]],
        channels_last=bool(dims[15]),
    )


def _plan(
    kind: ConvolutionPass, convolution: Convolution, context: KernelContext
) -> cudnn.ConvolutionPlan | None:
    """What cuDNN would run; `None` where it can't be asked, or where PyTorch's own kernel runs.

    A depthwise convolution runs in that kernel, without workspace, unless it lies in channels-last
    order or has 16 bits (Convolution.cpp, use_cudnn_depthwise).
    """
    if convolution.is_depthwise and not convolution.channels_last and convolution.number == "fp32":
        return None
    return cudnn.first_plan(
        kind,
        convolution,
        context.target.compute_capability,
        deterministic=context.deterministic,
    )


def _workspace(kind: ConvolutionPass) -> Any:
    def size(dims: Dims, context: KernelContext) -> int:
        convolution = _convolution(dims)
        if convolution.is_depthwise and convolution.number != "fp32":
            return 0  # an H100 took engines that the list lacks, which wanted nothing in forward
        plan = _plan(kind, convolution, context)
        return 0 if plan is None else plan.workspace_bytes

    return size


def _workspace_bound(kind: ConvolutionPass) -> Any:
    def bound(dims: Dims, context: KernelContext) -> int:
        convolution = _convolution(dims)
        plan = _plan(kind, convolution, context)
        if plan is None:
            return 0
        return workspace_bound(kind, convolution, plan, context.target.multiprocessors)

    return bound


def _reordered_gradient(args: Sequence[Any]) -> Dims | None:
    """Bytes of grad_output if it does not lie in the order of the input, else 0."""
    return _copied(args[0], suggest_memory_format(args[1])) if args[1].dim() == 4 else None


def _reordered_weight(args: Sequence[Any]) -> Dims | None:
    """Bytes of the weight in the order of a forward convolution, else 0."""
    return _copied(args[1], _order(args[0], args[1])) if args[0].dim() == 4 else None


def _reordered_weight_backward(args: Sequence[Any]) -> Dims | None:
    """Bytes of the weight in the order of grad_output, where grad_input is wanted."""
    image, weight = args[1], args[2]
    return _copied(weight, _order(image, weight)) if image.dim() == 4 and args[10][0] else None


EACH_CALL = "ATen/cuda/CublasHandlePool.cpp, pull request 194311: taken for the call, given back"
CONV_V8 = "native/cudnn/Conv_v8.cpp, run_conv_plan; the size is cuDNN's own answer"

PRODUCTS = {"aten.mm.default": (1, 0), "aten.bmm.default": (1, 0), "aten.addmm.default": (2, 1)}
"""Products of matrices, and which arguments the two are: the second is the first to be copied."""

PRODUCT_ROWS = tuple(
    KernelRow(
        name=f"{op}: matrix {3 - number} in an order that cuBLAS takes",
        ops=(op,),
        dims=_product_operand(position),
        source="cuda/Blas.cpp, prepare_matrix_for_cublas and prepare_batch_matrix_for_cublas",
    )
    for op, positions in PRODUCTS.items()
    for number, position in enumerate(positions, start=1)
)

LIBRARY_ROWS = (
    *PRODUCT_ROWS,
    KernelRow(
        name="cublas workspace",
        ops=GEMMS,
        dims=_always,
        size=lambda dims, context: cublas_workspace_bytes(context.pins),
        owner="workspaces",
        kept_by="cublas",
        source="ATen/cuda/CublasHandlePool.cpp: one a handle and stream, kept",
        under=lambda rules: rules.workspaces != "each call",
    ),
    KernelRow(
        name="cublasLt workspace",
        ops=(ADDMM,),
        dims=_goes_to_cublaslt,
        size=lambda dims, context: CUBLASLT_WORKSPACE,
        owner="workspaces",
        kept_by="cublasLt",
        source="ATen/cuda/CublasHandlePool.cpp, getCUDABlasLtWorkspace: 1 MiB of its own, "
        "unless TORCH_CUBLASLT_UNIFIED_WORKSPACE=1",
        under=lambda rules: rules.workspaces == "one a library",
    ),
    *(
        KernelRow(
            name=f"{op}: cublas workspace of the call",
            ops=(op,),
            dims=_goes_to_cublas(op),
            size=lambda dims, context: cublas_workspace_bytes(context.pins),
            owner="workspaces",
            source=EACH_CALL,
            under=lambda rules: rules.workspaces == "each call",
        )
        for op in GEMMS
    ),
    KernelRow(
        name="cublasLt workspace of the call",
        ops=(ADDMM,),
        dims=_goes_to_cublaslt,
        size=lambda dims, context: CUBLASLT_WORKSPACE,
        owner="workspaces",
        source=EACH_CALL,
        under=lambda rules: rules.workspaces == "each call",
    ),
    KernelRow(
        name="cudnn forward weight in the input's order",
        ops=CONVOLUTION,
        dims=_reordered_weight,
        source="native/cudnn/ConvShared.cpp, cudnn_convolution_forward_out",
    ),
    KernelRow(
        name="cudnn forward workspace",
        ops=CONVOLUTION,
        dims=_forward,
        size=_workspace("forward"),
        bound=_workspace_bound("forward"),
        owner="workspaces",
        source=CONV_V8,
    ),
    KernelRow(
        name="cudnn backward grad_output in the input's order",
        ops=CONVOLUTION_BACKWARD,
        dims=_reordered_gradient,
        source="native/cudnn/ConvShared.cpp, cudnn_convolution_backward",
        before=True,
    ),
    KernelRow(
        name="cudnn backward weight in the gradient's order",
        ops=CONVOLUTION_BACKWARD,
        dims=_reordered_weight_backward,
        source="native/cudnn/ConvShared.cpp, cudnn_convolution_backward_input",
        outlives=1,
        after_output=0,
    ),
    KernelRow(
        name="cudnn backward data workspace",
        ops=CONVOLUTION_BACKWARD,
        dims=_backward(0),
        size=_workspace("backward_data"),
        bound=_workspace_bound("backward_data"),
        owner="workspaces",
        outlives=0,
        after_output=0,
        source=CONV_V8,
    ),
    KernelRow(
        name="cudnn backward filter workspace",
        ops=CONVOLUTION_BACKWARD,
        dims=_backward(1),
        size=_workspace("backward_filter"),
        bound=_workspace_bound("backward_filter"),
        owner="workspaces",
        outlives=0,
        after_output=1,
        source=CONV_V8,
    ),
)
