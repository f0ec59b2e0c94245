"""Traced programs on disk, so that nothing is traced twice. Always safe to delete.

Under `$XDG_CACHE_HOME`, else `~/.cache`. Keyed by everything that a trace depends on: the
candidate, the card's part in kernels, the pins, torch, timm and this project's source. A file
begins with a hash of its name and content; one that can't be trusted is told and traced again, and
a cache that can't be written is not used.
"""

import hashlib
import io
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.simulate.kernels import ROWS
from bench.simulate.program.packed import packed, unpacked
from bench.simulate.program.program import Program
from bench.trials.digests import prediction_digest
from distill.base.console import say
from distill.base.errors import DistillError
from distill.base.files import write_whole
from distill.base.reading import read_plain
from distill.data.archive_members import DAMAGES, array_members
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins
from distill.spec.profile import Target
from distill.spec.validated import reason_of

FOLDER = "six-gig-distill/traces"
HASH_BYTES = 16


class TraceCache:
    """Programs by what they depend on. `folder` of `None` keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._source = f"{prediction_digest()} {version('torch')} {version('timm')}"

    def path(self, candidate: Candidate, target: Target, pins: Pins) -> Path | None:
        """The file of a candidate's program, there or not."""
        if self.folder is None:
            return None
        key = {
            "candidate": asdict(candidate),
            "compute_capability": target.compute_capability,
            "multiprocessors": target.multiprocessors,
            "threads_per_multiprocessor": target.threads_per_multiprocessor,
            "pins": pins.model_dump(mode="json"),
            "source": self._source,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.npz"

    def load(self, path: Path | None) -> Program | None:
        """The program kept at `path`; `None` where there is none that can be trusted."""
        if path is None or not os.path.lexists(path):
            return None
        try:
            content = read_plain(path)
            if content[:HASH_BYTES] != _hash(path, content[HASH_BYTES:]):
                raise ValueError("its content is not what its checksum says")
            return _program(content[HASH_BYTES:])
        except (OSError, MemoryError, *DAMAGES) as error:
            say(f"  {path} can't be trusted ({reason_of(error)}); traced anew")
            return None

    def save(self, path: Path | None, program: Program) -> None:
        """Keep a program, if the place can be written."""
        if path is None:
            return
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **packed(program))
        content = stream.getvalue()
        try:
            write_whole(path, lambda file: file.write(_hash(path, content) + content))
        except DistillError:
            self.folder = None


def default_folder() -> Path:
    """The folder of traces, for a user of this machine."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / FOLDER


def _program(content: bytes) -> Program:
    """The program in an archive of arrays. Raises what `DAMAGES` lists."""
    array_members(io.BytesIO(content))  # what a header claims is held against what is there
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        program = unpacked(arrays)
    unknown = {formula.row for formula in program.formulas.values()} - {row.name for row in ROWS}
    if unknown:
        raise ValueError("it asks for a kernel that is not known")
    return program


def _hash(path: Path, content: bytes) -> bytes:
    """A file that goes by another's name is not that other."""
    return hashlib.blake2b(
        content, digest_size=HASH_BYTES, key=path.name.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    ).digest()
