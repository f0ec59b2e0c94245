"""Memory that CUDA kernels allocate inside themselves: one table, a module a kind of kernel.

Fake tensors show only the results of an op. These rows are the rest, in the order in which a
kernel allocates. Each names the ops, what it depends on, how many bytes, and where that is read
(torch 2.11, or a later one that `torch_rules` names; the wheel's machine code decided where copies
of the source differ).
`tests/bench/simulate/kernels/test_kernels.py` repeats each by hand. `UNKNOWN` lists what no row
can know.

    attention        rows of flash and memory-efficient attention
    library          rows of cuBLAS, cublasLt and cuDNN: workspaces
    elementwise      rows of sums and layer norm
    extremes         rows of other reductions
    composed         rows of losses, softmax's backward, group norm
    embedding        rows of embeddings: the sort behind their gradient
    lists            rows of lists of tensors, indexing, sorts
    workspace_bound  how much more than cuDNN says a card may take for a convolution
    cudnn            cuDNN's own answer to how much workspace a convolution takes
    convolution      a convolution as numbers
    reductions       the scratch of a CUDA reduction
    row              the type of a row

A new row goes into the module of its kind. Of `simulate` it imports `program` for types, and
`torch_rules`.
Refuses a size without a source, and to launch or time a kernel.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bench.simulate.kernels.attention import ATTENTION_ROWS
from bench.simulate.kernels.composed import COMPOSED_ROWS
from bench.simulate.kernels.elementwise import ELEMENTWISE_ROWS
from bench.simulate.kernels.embedding import EMBEDDING_ROWS
from bench.simulate.kernels.extremes import EXTREME_ROWS
from bench.simulate.kernels.library import LIBRARY_ROWS
from bench.simulate.kernels.lists import LIST_ROWS
from bench.simulate.kernels.row import Dims, KernelContext, KernelRow
from bench.simulate.program.program import HiddenAllocation

ROWS = (
    *(*ATTENTION_ROWS, *LIBRARY_ROWS, *ELEMENTWISE_ROWS),
    *(*EXTREME_ROWS, *COMPOSED_ROWS, *EMBEDDING_ROWS, *LIST_ROWS),
)

UNKNOWN = (
    "the CUDA context: driver, card and loaded kernels decide",
    "batch norm in channels-last order: taken as 0",
)
"""Memory that is not in the table; the budget's context and margin are for it. cuDNN's workspaces
are in it, with a bound where they are not certain (`workspace_bound`)."""


class KernelTable:
    """The rows, for one card and its pins."""

    def __init__(self, context: KernelContext) -> None:
        self.context = context
        self.by_name = {row.name: row for row in ROWS}
        self.by_op: dict[str, list[KernelRow]] = {}
        for row in ROWS:
            if row.under is not None and not row.under(context.rules):
                continue
            for op in row.ops:
                self.by_op.setdefault(op, []).append(row)

    def __call__(
        self, op: str, args: Sequence[Any], outputs: Sequence[Tensor]
    ) -> list[HiddenAllocation]:
        """The allocations of one call of `op` beyond its outputs."""
        found = []
        for row in self.by_op.get(op, ()):
            dims = row.dims(args)
            if dims is not None:
                found.append(
                    HiddenAllocation(
                        row.name,
                        dims,
                        row.size(dims, self.context),
                        row.owner,
                        outlives=row.outlives,
                        kept_by=row.kept_by,
                        before=row.before,
                        after_output=row.after_output,
                    )
                )
        return found

    def size(self, row: str, dims: Dims) -> int:
        """Bytes of a row for other dimensions."""
        return self.by_name[row].size(dims, self.context)

    def bound(self, row: str, dims: Dims) -> int | None:
        """The most bytes that a row can have, or `None` where its size is certain."""
        bound = self.by_name[row].bound
        return None if bound is None else bound(dims, self.context)


__all__ = ["ROWS", "UNKNOWN", "KernelContext", "KernelTable"]
