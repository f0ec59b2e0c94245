"""Reading a checkpoint's archive: whole by its checksums, its plain fields checked one by one.

Nothing is unpickled but tensors and plain values (`weights_only=True`). What is damaged says why.
"""

import pickle
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from pydantic import ValidationError
from torch import Tensor

from distill.base.errors import UserError, in_short
from distill.base.reading import open_plain
from distill.spec.validated import first_problem, validated

SCHEMA = 3

DAMAGES = (
    *(OSError, EOFError, RuntimeError, BadZipFile, pickle.UnpicklingError, zlib.error),
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError),
    *(ArithmeticError, MemoryError, AssertionError, struct.error),
)
"""What reading a damaged file raises, depending on where the damage is."""


class Unreadable(UserError):
    """A checkpoint that is damaged, and how in a few words."""

    def __init__(self, path: Path, reason: object) -> None:
        self.reason = in_short(reason)
        super().__init__(
            f"Checkpoint {path} can't be read ({self.reason}). Remove it to train this stage again."
        )


def write_archive(document: dict[str, Any], stream: BinaryIO) -> None:
    """`torch.save`, telling a full disk as the OSError that it is."""
    try:
        torch.save(document, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read_archive(path: Path) -> dict[str, Any]:
    """The document of a checkpoint. Raises `Unreadable` when it is damaged."""
    try:
        with open_plain(path) as stream:
            _check_sums(stream)
            stream.seek(0)
            document = torch.load(stream, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreadable(path, reason) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"Checkpoint {path} has another schema. Start over with --fresh.")
    return document


def plain_fields(path: Path, kind: Any, document: Mapping[str, Any]) -> Any:
    """The fields of a document that are plain values, as a `kind`. Raises `Unreadable`."""
    try:
        return validated(kind, document)
    except ValidationError as error:
        raise Unreadable(path, first_problem(error).rstrip(".")) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(path, error) from error


def tensors_by_name(path: Path, state: Any) -> dict[str, Tensor]:
    """A model's weights. Raises `Unreadable` for what is no dictionary of tensors."""
    if not isinstance(state, dict) or not state:
        raise Unreadable(path, "it holds no weights")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise Unreadable(path, f"{str(name)[:80]} is no tensor")
    return state


def _check_sums(stream: BinaryIO) -> None:
    """Hold every member against its checksum: `torch.load` itself looks at none.

    `torch.save` packs nothing, so that what is packed is not its file, and may be endless.
    """
    with ZipFile(stream) as archive:
        members = archive.infolist()
        stored_bytes = sum(member.file_size for member in members)
        stream.seek(0, 2)
        packed = any(member.compress_type != ZIP_STORED for member in members)
        if packed or stored_bytes > stream.tell():
            raise BadZipFile("its members are packed")
        damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(f"{damaged} is damaged")
