"""An array in a file that is memory-mapped later: a checksum over all of it lies behind it.

What of such a file is not exactly as it was written is noticed before any of it is used. Always
safe to delete: whoever wrote it can make it anew.
"""

import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from distill.base.reading import open_plain
from distill.base.units import MIB
from distill.data.archive_members import read_header

MARK = b"\nSUM "
SEAL_BYTES = len(MARK) + 8
"""The mark and 8 hex digits of CRC-32, behind the array."""


def blank_array(
    path: Path, shape: tuple[int, ...], dtype: "np.dtype[Any]"
) -> "np.memmap[Any, Any]":
    """A memory-mapped `.npy` file on blocks that the disk has: if it is full, it says so here."""
    blank = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return blank


def seal(path: Path) -> None:
    """Put the checksum behind a `.npy` file, and have both on the disk."""
    with path.open("r+b") as stream:
        checksum = _checksum(stream, os.fstat(stream.fileno()).st_size)
        stream.write(checksum)
        stream.flush()
        os.fsync(stream.fileno())


def write_sealed(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a `.npy` file, piece by piece, and put the checksum behind it."""
    checksum = 0
    while piece := source.read(MIB):
        checksum = zlib.crc32(piece, checksum)
        target.write(piece)
    target.write(_seal_of(checksum))


def read_sealed(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of bytes in a sealed file, memory-mapped.

    Raises `OSError` for what can't be read, `ValueError` with the reason where it is not whole.
    """
    with open_plain(path) as stream:
        content_bytes = os.fstat(stream.fileno()).st_size - SEAL_BYTES
        checksum = _checksum(stream, max(0, content_bytes))
        if stream.read() != checksum:
            raise ValueError("its content is not what its checksum says")
        stream.seek(0)
        found = read_header(stream)
        if found.shape != shape or found.dtype != np.uint8:
            raise ValueError(f"it holds {found.dtype} {found.shape}, not uint8 {shape}")
        if stream.tell() + math.prod(shape) != content_bytes:
            raise ValueError("it has another size")
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


def _checksum(stream: IO[bytes], content_bytes: int) -> bytes:
    """The seal of the next bytes of a stream."""
    checksum, left = 0, content_bytes
    while left:
        piece = stream.read(min(left, MIB))
        if not piece:
            raise ValueError("it has another size")
        checksum, left = zlib.crc32(piece, checksum), left - len(piece)
    return _seal_of(checksum)


def _seal_of(checksum: int) -> bytes:
    return MARK + f"{checksum:08x}".encode()
