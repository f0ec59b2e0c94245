"""Builds a stub of the CUDA driver, under which PyTorch's own CUDA code runs without a GPU.

`driver.c` hands out memory and computes nothing. Every other function of the runtime and of cuBLAS
that PyTorch calls answers "done". Needs a C compiler and `nm`; says so where they are missing.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("driver.c")
WITHOUT_CUDNN = Path(__file__).with_name("without_cudnn")
LEFT_TO_CUDA = re.compile(r"__cuda(Push|Pop|Register|Unregister)\w+")
"""How a library's kernels are made known, before anything runs."""

HEADERS = (
    ("nvidia/*/include/driver_types.h", 0),
    ("triton/backends/nvidia/include/crt/host_defines.h", 1),
)


def missing_tools() -> list[str]:
    """What is not here that building takes."""
    missing = [tool for tool in ("cc", "nm") if shutil.which(tool) is None]
    return missing if len(_headers()) == len(HEADERS) else [*missing, "CUDA's headers"]


def build(folder: Path) -> Path:
    """The library, built in `folder` under the name by which PyTorch looks for the driver."""
    library = folder / "libcuda.so.1"
    own = set(re.findall(r"\b((?:cuda|cublas|cu)[A-Z]\w*)\s*\(", SOURCE.read_text()))
    rest = sorted(name for name in _called() - own if not LEFT_TO_CUDA.fullmatch(name))
    stubs = folder / "rest.c"
    stubs.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in rest))
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", *(f"-I{folder}" for folder in _headers())]
    subprocess.run([*command, "-o", library, SOURCE, stubs], check=True)
    (folder / "libnvidia-ml.so.1").symlink_to(library)
    return library


def environment(library: Path, device_bytes: int, *, finite: bool = False) -> dict[str, str]:
    """What a process needs to take the library for a GPU with so much memory.

    With `finite` the host reads zeros, as a run ends where a loss is no number.
    """
    zeros = {"STUB_ZEROS": "1"} if finite else {}
    return (
        os.environ
        | zeros
        | {
            "LD_PRELOAD": str(library),
            "LD_LIBRARY_PATH": str(library.parent),
            "STUB_BYTES": str(device_bytes),
            "CUDA_VISIBLE_DEVICES": "0",
            "PYTHONPATH": os.pathsep.join([str(WITHOUT_CUDNN), str(ROOT)]),
        }
    )


def _headers() -> list[Path]:
    """The folders with the runtime's types, and with what they include of the compiler's."""
    packages = Path(torch.__file__).parents[1]
    return [found.parents[depth] for glob, depth in HEADERS for found in packages.glob(glob)]


def _called() -> set[str]:
    """The functions of CUDA's runtime and of cuBLAS that PyTorch's libraries call."""
    found: set[str] = set()
    for name in ("libc10_cuda.so", "libtorch_cuda.so"):
        library = Path(torch.__file__).parent / "lib" / name
        listing = subprocess.run(
            ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
        )
        found |= set(re.findall(r" U ((?:__cuda|cuda|cublas)\w+)", listing.stdout))
    return found
