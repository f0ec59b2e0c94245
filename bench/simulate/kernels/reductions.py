"""Scratch of a CUDA reduction: partial results and semaphores. Pure.

aten/src/ATen/native/cuda/Reduce.cuh, setReduceConfig and ReduceConfig::global_memory_size
(torch 2.11): when one output is worth several blocks of threads, each block leaves its partial
results in global memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

MAX_THREADS = 512
WARP = 32
OUTPUT_VECTOR = 4
VECTOR_THRESHOLD = 128
"""A reduced dimension shorter than this is not read in vectors."""


@dataclass(frozen=True)
class Operand:
    """A tensor to reduce. `reduced` are the dimensions that go, `offset` its storage offset."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    reduced: tuple[bool, ...]
    item_bytes: int
    offset: int = 0


@dataclass(frozen=True)
class Gpu:
    """The two facts about a card that decide how a reduction is laid out."""

    multiprocessors: int
    threads_per_multiprocessor: int


@dataclass(frozen=True)
class Scratch:
    """Bytes of the two hidden allocations; both 0 when one block does for each output."""

    partials: int
    semaphores: int


NOTHING = Scratch(0, 0)


@dataclass(frozen=True)
class _Loop:
    """The dimensions as TensorIterator orders and joins them; an output stride of 0 is reduced."""

    sizes: list[int]
    output: list[int]
    input: list[int]


@cache
def scratch(operand: Operand, gpu: Gpu, *, accumulator_bytes: int = 4) -> Scratch:
    """The scratch of one reduction. An accumulator is fp32 for every type of up to 32 bits."""
    loop = _loop(operand)
    inputs, outputs = _counts(loop)
    if inputs <= 1:
        return NOTHING
    vector_bytes = 16
    layout = _Layout(operand, loop, inputs, outputs, vector_bytes // operand.item_bytes)
    return layout.scratch(gpu, accumulator_bytes)


class _Layout:
    """The shares of blocks and threads in the work, in the steps of setReduceConfig."""

    def __init__(
        self, operand: Operand, loop: _Loop, inputs: int, outputs: int, input_vector: int
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.output_vector = 1
        reduced = sum(stride == 0 for stride in loop.output)
        along = reduced == len(loop.sizes) or loop.input[0] < loop.input[reduced]
        first, second = (inputs, outputs) if along else (outputs, inputs)
        fastest = loop.input[0] if along else loop.input[reduced]
        if fastest == operand.item_bytes:
            if along and first >= VECTOR_THRESHOLD and reduced == 1:
                first //= input_vector
            elif not along:
                self.output_vector = _output_vector(operand, loop, reduced)
                first //= self.output_vector
        self._block(first, second)
        self._share(along)

    def _block(self, first: int, second: int) -> None:
        """Threads of a block, powers of two, a warp along the first dimension."""
        most = MAX_THREADS // self.output_vector
        wide = min(_power_of_two(first), most)
        high = min(_power_of_two(second), most)
        self.width = min(wide, WARP)
        self.height = min(high, most // self.width)
        self.width = min(wide, most // self.height)

    def _share(self, along: bool) -> None:
        """Share the block's dimensions out between the inputs and the outputs."""
        self.step_input = self.step_output = 1
        self.across_width = along
        if along:
            self.step_input *= self.width
        else:
            self.step_output *= self.width
        values = _ceil(self.inputs, self.step_input)
        self.across_height = values >= min(self.height * 16, 256)
        if self.across_height:
            self.step_input *= self.height
        else:
            self.step_output *= self.height

    def scratch(self, gpu: Gpu, accumulator_bytes: int) -> Scratch:
        """Several blocks an output, if there is room on the card and enough to do for each."""
        threads = self.width * self.height
        room = gpu.multiprocessors * (gpu.threads_per_multiprocessor // threads)
        blocks = _ceil(self.outputs // self.output_vector, self.step_output)
        values = _ceil(self.inputs, self.step_input)
        if not self.across_height or values < 256 or blocks > room:
            return NOTHING
        shares = max(min(_ceil(room, blocks), _ceil(values, 16)), _ceil(values, 256))
        if shares <= 1:
            return NOTHING
        partials = accumulator_bytes * self.outputs * shares
        if not self.across_width:
            partials *= self.width * self.output_vector
        return Scratch(partials, 4 * blocks)


def _loop(operand: Operand) -> _Loop:
    """Sort dimensions by stride, the reduced ones first, and join what lies in a row."""
    result = _result_strides(operand)
    order = _sorted(operand, result)
    sizes = [operand.sizes[d] for d in order]
    output = [result[d] for d in order]
    inputs = [operand.strides[d] * operand.item_bytes for d in order]
    return _joined(_Loop(sizes, output, inputs))


def _result_strides(operand: Operand) -> list[int]:
    """Strides in bytes of a fresh result that keeps its dimensions, 0 where reduced."""
    strides, step = [0] * len(operand.sizes), operand.item_bytes
    for d in reversed(range(len(operand.sizes))):
        if not operand.reduced[d]:
            strides[d] = 0 if operand.sizes[d] == 1 else step
            step *= max(operand.sizes[d], 1)
    return strides


def _sorted(operand: Operand, result: Sequence[int]) -> list[int]:
    """TensorIterator's insertion sort (reorder_dimensions): fastest dimension first."""
    order = list(reversed(range(len(operand.sizes))))
    for start in range(1, len(order)):
        at = start
        for before in reversed(range(start)):
            comparison = _compare(operand, result, order[before], order[at])
            if comparison > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif comparison < 0:
                break
    return order


def _compare(operand: Operand, result: Sequence[int], one: int, other: int) -> int:
    """Positive when `one` must come after `other`."""
    if (result[one] == 0) != (result[other] == 0):
        return 1 if result[other] == 0 else -1
    for strides in (result, operand.strides):
        if strides[one] == 0 or strides[other] == 0:
            continue
        if strides[one] != strides[other]:
            return -1 if strides[one] < strides[other] else 1
        if operand.sizes[one] > operand.sizes[other]:
            return 1
    return 0


def _joined(loop: _Loop) -> _Loop:
    """Dimensions that lie in a row in input and output become one (coalesce_dimensions)."""
    if not loop.sizes:
        return loop
    sizes, output, inputs = [loop.sizes[0]], [loop.output[0]], [loop.input[0]]
    for size, out, inp in zip(loop.sizes[1:], loop.output[1:], loop.input[1:], strict=True):
        in_a_row = sizes[-1] * output[-1] == out and sizes[-1] * inputs[-1] == inp
        if sizes[-1] == 1 or size == 1 or in_a_row:
            if sizes[-1] == 1:
                output[-1], inputs[-1] = out, inp
            sizes[-1] *= size
        else:
            sizes.append(size)
            output.append(out)
            inputs.append(inp)
    return _Loop(sizes, output, inputs)


def _counts(loop: _Loop) -> tuple[int, int]:
    """The number of inputs of each output, and of outputs."""
    total = outputs = 1
    for size, stride in zip(loop.sizes, loop.output, strict=True):
        total *= size
        if stride != 0:
            outputs *= size
    return (total // outputs if outputs else 0), outputs


def _output_vector(operand: Operand, loop: _Loop, reduced: int) -> int:
    """Outputs that a thread makes at once: 4, 2 or 1, as alignment allows."""
    lengths = [operand.offset, loop.sizes[reduced]]
    lengths += [stride // operand.item_bytes for d, stride in enumerate(loop.input) if d != reduced]
    vector = OUTPUT_VECTOR
    for length in lengths:
        while length % vector:
            vector //= 2
    return vector


def _power_of_two(value: int) -> int:
    return 1 << max(value, 1).bit_length() - 1


def _ceil(value: int, by: int) -> int:
    return -(-value // by)
