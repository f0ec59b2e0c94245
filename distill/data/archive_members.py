"""The arrays in an `.npz` file before any is unpacked: each of the kind and size it must have.

Reads headers alone. A header may claim what no memory holds, an array Python's own objects.
"""

import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

MOST_PACKED = 1100
"""Deflate makes at most 1,032 bytes of one (zlib's technical details)."""

DAMAGES = (
    *(ValueError, KeyError, EOFError, BadZipFile, zlib.error, struct.error),
    *(RuntimeError, NotImplementedError, OverflowError, SyntaxError, TypeError),
)
"""What reading a damaged archive raises, depending on where the damage is."""

ENCRYPTED = 0x1

READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Member:
    """The type and shape of one array, as its header has it."""

    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]


def array_members(stream: BinaryIO) -> Mapping[str, Member]:
    """The arrays of an archive by name. Raises `OSError` and what `DAMAGES` lists."""
    with ZipFile(stream) as archive:
        return {
            info.filename.removesuffix(".npy"): _member(archive, info)
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }


def _member(archive: ZipFile, info: ZipInfo) -> Member:
    if info.flag_bits & ENCRYPTED:
        raise BadZipFile(f"{info.filename} is encrypted")
    if info.file_size > MOST_PACKED * info.compress_size + MOST_PACKED:
        raise BadZipFile(f"{info.filename} claims {info.file_size:,} bytes")
    with archive.open(info) as content:
        member = read_header(content)
        claimed = content.tell() + member.dtype.itemsize * math.prod(member.shape)
    if member.dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python's objects")
    if claimed != info.file_size:
        raise ValueError(f"{info.filename} claims {claimed:,} bytes and holds {info.file_size:,}")
    return member


def read_header(content: BinaryIO | IO[bytes]) -> Member:
    """What the header of a `.npy` file says. Raises `ValueError` for one that can't be read."""
    try:
        version = np.lib.format.read_magic(content)
        if version not in READERS:
            raise ValueError(f"version {version} of the format is not read")
        shape, _, dtype = READERS[version](content)
    except (TokenError, SyntaxError, TypeError) as error:  # of Python's own parser
        raise ValueError("its header can't be read") from error
    if any(size < 0 for size in shape):
        raise ValueError("a shape is negative")
    return Member(dtype, shape)
