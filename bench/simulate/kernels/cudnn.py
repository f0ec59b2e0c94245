"""cuDNN's own answer, without a GPU, to how much workspace a convolution takes.

The library that comes with torch's wheel answers for a card that is only described to it
("deviceless ahead-of-time compilation", cuDNN 9.8 and later). PyTorch takes the first
configuration that its filters let through (aten/src/ATen/native/cudnn/Conv_v8.cpp,
run_single_conv and try_configs, benchmark off), and so does this.

What an H100 showed against its description: in fp32 all 32 convolutions of ResNet-18 took the
first configuration that this gives, down to the knobs. Its bytes may differ where a kernel works
in clusters, and some engines are missing from the list: `workspace_bound` says how far off it is.

Answers `None` where the library is not there or knows no such card. Names of constants are
those of cudnn_graph.h, without the prefix.
"""

import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.simulate.kernels.convolution import (
    Convolution,
    ConvolutionPass,
    Shape,
    channels_last,
    contiguous,
    device_properties,
)
from distill.spec.candidate import Precision

# descriptors
CONVOLUTION, ENGINE, ENGINECFG, ENGINEHEUR, EXECUTION_PLAN = 1, 2, 3, 4, 5
KNOB_CHOICE, OPERATIONGRAPH, TENSOR, DEVICEPROP = 7, 15, 17, 38

# types of attributes
DATA_TYPE, BOOLEAN, INT64, FLOAT = 1, 2, 3, 4
CONVOLUTION_MODE, HEUR_MODE, KNOB_TYPE, NUMERICAL_NOTE = 7, 8, 9, 11
BACKEND_DESCRIPTOR, CHAR = 15, 24

# values
CROSS_CORRELATION, HEUR_MODE_INSTANT = 1, 0
NOTE_TENSOR_CORE, NOTE_DOWN_CONVERT_INPUTS, NOTE_NONDETERMINISTIC = 0, 1, 4
TILE_CGA_M, TILE_CGA_N = 27, 28
MOST_KNOBS = 44
DATA_TYPES: dict[Precision, int] = {"fp32": 0, "fp16": 2, "bf16": 9}
ALIGNMENT = 32

# operation descriptor; attributes of convolution, x, y, w, alpha, beta
OPERATIONS: dict[ConvolutionPass, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "forward": (10, (702, 704, 705, 703, 700, 701)),
    "backward_filter": (11, (714, 716, 717, 715, 712, 713)),
    "backward_data": (12, (708, 710, 711, 709, 706, 707)),
}

_C_TYPES: dict[int, Any] = {
    INT64: ctypes.c_int64,
    BOOLEAN: ctypes.c_bool,
    FLOAT: ctypes.c_float,
    BACKEND_DESCRIPTOR: ctypes.c_void_p,
}


class CudnnError(Exception):
    """The library did not want to answer."""


@dataclass(frozen=True)
class ConvolutionPlan:
    """What cuDNN says of the configuration that it would run on a described card.

    `has_clusters`: its thread blocks work in clusters (knobs TILE_CGA_M and _N).
    """

    workspace_bytes: int
    has_clusters: bool


def first_plan(
    kind: ConvolutionPass,
    convolution: Convolution,
    compute_capability: Shape,
    *,
    deterministic: bool,
) -> ConvolutionPlan | None:
    """The plan of the first configuration that PyTorch would take."""
    library = _library()
    if library is None:
        return None
    return _asked(library, kind, convolution, compute_capability, deterministic)


@cache
def _asked(
    library: "CudnnLibrary",
    kind: ConvolutionPass,
    convolution: Convolution,
    compute_capability: Shape,
    deterministic: bool,
) -> ConvolutionPlan | None:
    try:
        device = library.device(compute_capability)
        graph = library.graph(kind, convolution)
        for config in library.heuristics(graph, device):
            notes = library.numerical_notes(config)
            if NOTE_DOWN_CONVERT_INPUTS in notes:
                continue
            if deterministic and NOTE_NONDETERMINISTIC in notes:
                continue
            try:
                return ConvolutionPlan(
                    library.plan_workspace(config, device), library.has_clusters(config)
                )
            except CudnnError:
                continue
    except CudnnError:
        return None
    finally:
        library.forget()
    return None


class CudnnLibrary:
    """The calls of cuDNN's backend interface that are needed.

    Descriptors live until `forget`: an answer of the heuristics holds megabytes.
    """

    def __init__(self, path: Path) -> None:
        # First the libraries that cuDNN opens by name: it looks among those already loaded.
        for name in ("libcudart", "libnvrtc", "libcublasLt", "libcublas"):
            for found in sorted(path.parents[2].glob(f"cu*/lib/{name}.so.*")):
                if "alt" not in found.name and "builtins" not in found.name:
                    ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)
        self.call = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self.call.cudnnBackendCreateDescriptor.argtypes = [integer, pointer]
        self.call.cudnnBackendFinalize.argtypes = [pointer]
        self.call.cudnnBackendDestroyDescriptor.argtypes = [pointer]
        self.call.cudnnBackendSetAttribute.argtypes = [
            pointer, integer, integer, ctypes.c_int64, pointer,
        ]  # fmt: skip
        self.call.cudnnBackendGetAttribute.argtypes = [
            pointer, integer, integer, ctypes.c_int64, pointer, pointer,
        ]  # fmt: skip
        self._devices: dict[Shape, Any] = {}
        self._made: list[Any] = []

    def forget(self) -> None:
        """Free what was made for the last question; cards stay described."""
        for descriptor in reversed(self._made):
            self.call.cudnnBackendDestroyDescriptor(descriptor)
        self._made.clear()

    def device(self, compute_capability: Shape) -> Any:
        """A card as cuDNN's heuristics want it described; only its capability decides."""
        if compute_capability not in self._devices:
            text = json.dumps(device_properties(compute_capability)).encode()
            device = self._new(DEVICEPROP)
            buffer = ctypes.create_string_buffer(text, len(text))
            self._check(self.call.cudnnBackendSetAttribute(device, 2702, CHAR, len(text), buffer))
            self._devices[compute_capability] = self._finished(device)
            self._made.remove(device)
        return self._devices[compute_capability]

    def graph(self, kind: ConvolutionPass, convolution: Convolution) -> Any:
        """A graph of the one operation."""
        number = DATA_TYPES[convolution.number]
        layout = channels_last if convolution.channels_last else contiguous
        tensors = [
            self._tensor(name, shape, layout(shape), number)
            for name, shape in (
                ("x", convolution.input),
                ("y", convolution.output),
                ("w", convolution.weight),
            )
        ]
        descriptor, attributes = OPERATIONS[kind]
        operation = self._new(descriptor)
        values = [self._convolution(convolution), *tensors]
        for attribute, value in zip(attributes[:4], values, strict=True):
            self._set(operation, attribute, BACKEND_DESCRIPTOR, [value])
        self._set(operation, attributes[4], FLOAT, [1.0])
        self._set(operation, attributes[5], FLOAT, [0.0])
        graph = self._new(OPERATIONGRAPH)
        self._set(graph, 801, BACKEND_DESCRIPTOR, [self._finished(operation)])
        return self._finished(graph)

    def heuristics(self, graph: Any, device: Any) -> list[Any]:
        """Engine configurations, the one that cuDNN thinks fastest first."""
        heuristics = self._new(ENGINEHEUR)
        self._set(heuristics, 201, BACKEND_DESCRIPTOR, [graph])
        self._set(heuristics, 200, HEUR_MODE, [HEUR_MODE_INSTANT])
        self._set(heuristics, 204, BACKEND_DESCRIPTOR, [device])
        self._finished(heuristics)
        count = self._get(heuristics, 202, BACKEND_DESCRIPTOR, None)
        array = (ctypes.c_void_p * count)(*(self._new(ENGINECFG) for _ in range(count)))
        found = self._get(heuristics, 202, BACKEND_DESCRIPTOR, array)
        return [ctypes.c_void_p(handle) for handle in array[:found]]

    def numerical_notes(self, config: Any) -> list[int]:
        """Remarks on the arithmetic of a configuration's engine."""
        engine = (ctypes.c_void_p * 1)(self._new(ENGINE))
        self._get(config, 300, BACKEND_DESCRIPTOR, engine)
        notes = (ctypes.c_int * 16)()
        count = self._get(ctypes.c_void_p(engine[0]), 1303, NUMERICAL_NOTE, notes)
        return list(notes[:count])

    def has_clusters(self, config: Any) -> bool:
        """True if a configuration chooses how thread blocks lie in a cluster."""
        array = (ctypes.c_void_p * MOST_KNOBS)(*(self._new(KNOB_CHOICE) for _ in range(MOST_KNOBS)))
        found = self._get(config, 302, BACKEND_DESCRIPTOR, array)
        return any(self._knob(choice) in (TILE_CGA_M, TILE_CGA_N) for choice in array[:found])

    def _knob(self, choice: Any) -> int:
        kind = (ctypes.c_int * 1)()
        self._get(ctypes.c_void_p(choice), 600, KNOB_TYPE, kind)
        return int(kind[0])

    def plan_workspace(self, config: Any, device: Any) -> int:
        """Bytes of workspace of the plan that a configuration makes."""
        plan = self._new(EXECUTION_PLAN)
        self._set(plan, 401, BACKEND_DESCRIPTOR, [config])
        self._set(plan, 407, BACKEND_DESCRIPTOR, [device])
        self._finished(plan)
        size = (ctypes.c_int64 * 1)()
        self._get(plan, 402, INT64, size)
        return int(size[0])

    def _convolution(self, convolution: Convolution) -> Any:
        descriptor = self._new(CONVOLUTION)
        self._set(descriptor, 106, INT64, [len(convolution.stride)])
        self._set(descriptor, 100, DATA_TYPE, [DATA_TYPES["fp32"]])
        self._set(descriptor, 101, CONVOLUTION_MODE, [CROSS_CORRELATION])
        self._set(descriptor, 105, INT64, convolution.padding)
        self._set(descriptor, 104, INT64, convolution.padding)
        self._set(descriptor, 102, INT64, convolution.dilation)
        self._set(descriptor, 103, INT64, convolution.stride)
        return self._finished(descriptor)

    def _tensor(self, name: str, shape: Shape, strides: Shape, number: int) -> Any:
        tensor = self._new(TENSOR)
        self._set(tensor, 901, DATA_TYPE, [number])
        self._set(tensor, 902, INT64, shape)
        self._set(tensor, 903, INT64, strides)
        self._set(tensor, 906, INT64, [ord(name)])
        self._set(tensor, 900, INT64, [ALIGNMENT])
        self._set(tensor, 907, BOOLEAN, [False])
        return self._finished(tensor)

    def _new(self, kind: int) -> Any:
        descriptor = ctypes.c_void_p()
        self._check(self.call.cudnnBackendCreateDescriptor(kind, ctypes.byref(descriptor)))
        self._made.append(descriptor)
        return descriptor

    def _finished(self, descriptor: Any) -> Any:
        self._check(self.call.cudnnBackendFinalize(descriptor))
        return descriptor

    def _set(self, descriptor: Any, attribute: int, kind: int, values: Sequence[Any]) -> None:
        array = (_C_TYPES.get(kind, ctypes.c_int) * len(values))(*values)
        self._check(
            self.call.cudnnBackendSetAttribute(descriptor, attribute, kind, len(values), array)
        )

    def _get(self, descriptor: Any, attribute: int, kind: int, array: Any) -> int:
        """Fill `array`; gives the number of values that there are."""
        count = ctypes.c_int64()
        room = 0 if array is None else len(array)
        self._check(
            self.call.cudnnBackendGetAttribute(
                descriptor, attribute, kind, room, ctypes.byref(count), array
            )
        )
        return count.value

    def _check(self, status: int) -> None:
        if status:
            raise CudnnError(f"status {status}")


@cache
def _library() -> CudnnLibrary | None:
    """The library of torch's wheel, or `None` where there is none that can be asked."""
    spec = find_spec("nvidia.cudnn")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "lib" / "libcudnn.so.9"
        if path.exists():
            try:
                return CudnnLibrary(path)
            except OSError:
                return None
    return None
