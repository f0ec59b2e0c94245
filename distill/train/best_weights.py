"""The best weights of a stage, kept twice: `best_acc_NN.NN.pth`, and as safetensors beside.

Each is held against a checksum before it is used. Where one is damaged the other is taken, which
is told; where both are, they are refused. Which is best is read from what was recorded in it,
never from names or file order.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.base.console import say
from distill.base.digest import file_digest
from distill.base.files import write_whole
from distill.base.reading import open_plain
from distill.spec.candidate import Criterion
from distill.step.models import load_state
from distill.train.archive import (
    SCHEMA,
    Unreadable,
    plain_fields,
    read_archive,
    tensors_by_name,
    write_archive,
)
from distill.train.copied_state import HasState
from distill.train.criterion import Validation, validation_of
from distill.train.run_folder import EpochRow, StageFolder

CHECKSUM = "checksum"
"""The key of a safetensors file's metadata that has the checksum over all the others and over the
weights. Files of an earlier version have none."""

ARCHIVE = "pth"
"""The key that has the hash of the same weights' other form, in files with a checksum."""


class _Best(BaseModel):
    """What a best checkpoint says of itself."""

    model_config = ConfigDict(frozen=True)

    scores: Validation
    criterion: Criterion = "accuracy"


@dataclass(frozen=True)
class _Kept:
    """One of the two files, read. `checked` is false where it has no checksum."""

    best: _Best
    weights: dict[str, Tensor]
    checked: bool = True


def save_best(
    folder: StageFolder,
    row: EpochRow,
    student: HasState,
    classes: Sequence[str] = (),
    criterion: Criterion = "accuracy",
) -> Path:
    """Keep these weights as the best; `drop_superseded` removes the best before them.

    `classes` are the names of the outputs, which go with the safetensors.
    """
    path = folder.checkpoints / f"best_acc_{100 * row.val_accuracy:.2f}.pth"
    best = {**asdict(validation_of(row)), "criterion": criterion}
    document = {"schema": SCHEMA, **best, "student": student.state_dict()}
    write_whole(path, lambda stream: write_archive(document, stream))
    about = {
        "best": json.dumps(best),
        "classes": json.dumps(list(classes)),
        ARCHIVE: file_digest(path),
    }
    content = with_checksum(student.state_dict(), about)
    write_whole(weights_beside(path), lambda stream: stream.write(content))
    return path


def weights_beside(best: Path) -> Path:
    """The path of the same weights as safetensors."""
    return best.with_suffix(".safetensors")


def with_checksum(state: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """Weights as a safetensors file that `read_weights` can hold against its own checksum."""
    weights = {name: value.contiguous() for name, value in state.items()}
    return save(weights, {**about, CHECKSUM: _checksum(weights, about)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a safetensors file, and what it says of them.

    Raises `Unreadable` when it is damaged; a file without a checksum is taken as it is.
    """
    try:
        open_plain(path).close()  # a pipe would be waited for
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise Unreadable(path, getattr(error, "strerror", None) or error) from error
    rest = {key: value for key, value in about.items() if key != CHECKSUM}
    wanted = about.get(CHECKSUM, "gone" if ARCHIVE in about else None)
    if wanted is not None and wanted != _checksum(weights, rest):
        raise Unreadable(path, "its content is not what its checksum says")
    return weights, about


def drop_superseded(folder: StageFolder, keep: Path) -> None:
    """Remove every best checkpoint but `keep`, once `latest.pth` knows of it."""
    for old in superseded(folder, keep):
        old.unlink(missing_ok=True)


def superseded(folder: StageFolder, keep: Path) -> list[Path]:
    """Best checkpoints, in both forms, that `keep` has taken the place of."""
    kept = {keep, weights_beside(keep)}
    return [path for path in folder.bests() if path not in kept]


def find_best(folder: StageFolder) -> tuple[Path, int, float] | None:
    """The best checkpoint by its recorded scores: its file, epoch (from 1), validation accuracy.

    By the criterion that the newest of them was kept for; where none is recorded, by accuracy.
    """
    recorded = [(_read_best(path).best, path) for path in folder.best_files()]
    if not recorded:
        return None
    newest, _ = max(recorded, key=lambda entry: entry[0].scores.epoch)
    best, path = max(recorded, key=lambda entry: entry[0].scores.rank(newest.criterion))
    return path, best.scores.epoch, best.scores.val_accuracy


def load_weights(path: Path, model: nn.Module) -> None:
    """Put a best checkpoint's weights into a model of the same shape."""
    load_state(model, _read_best(path).weights, str(path))


def recorded_classes(path: Path) -> tuple[str, ...] | None:
    """The names of the outputs that went with a best checkpoint; `None` where they are lost."""
    try:
        names = json.loads(read_weights(weights_beside(path))[1].get("classes", "null"))
    except (Unreadable, ValueError, RecursionError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def best_digest(path: Path) -> str:
    """The hash of a best checkpoint as it was saved, also where the file is damaged since."""
    digest = file_digest(path)
    try:
        read_archive(path)
    except Unreadable:
        return read_weights(weights_beside(path))[1].get(ARCHIVE, digest)
    return digest


def _read_best(path: Path) -> _Kept:
    """A best checkpoint, in whichever of its two forms is whole.

    What is damaged is told. Raises `Unreadable` where both are.
    """
    beside = weights_beside(path)
    try:
        kept = _kept_archive(path)
    except Unreadable as damaged:
        try:
            kept = _kept_beside(beside)
        except Unreadable:
            raise damaged from damaged.__cause__
        unsure = "" if kept.checked else ", which has no checksum"
        say(f"  {path} is damaged ({damaged.reason}); taken from {beside.name}{unsure}")
        return kept
    if beside.is_symlink() or beside.exists():
        problem = _problem_beside(beside, kept)
        if problem is not None:
            say(f"  {beside} is damaged ({problem}); taken from {path.name}")
    return kept


def _kept_archive(path: Path) -> _Kept:
    document = read_archive(path)
    scores = {key: value for key, value in document.items() if key in _SCORES}
    plain = {"scores": scores} | {k: document[k] for k in ("criterion",) if k in document}
    return _Kept(plain_fields(path, _Best, plain), tensors_by_name(path, document.get("student")))


def _kept_beside(path: Path) -> _Kept:
    weights, about = read_weights(path)
    try:
        best = json.loads(about["best"])
        plain = {"scores": {key: best[key] for key in best if key in _SCORES}}
        plain |= {key: best[key] for key in best if key == "criterion"}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(path, "it does not say which epoch it is of") from error
    return _Kept(plain_fields(path, _Best, plain), weights, CHECKSUM in about)


def _problem_beside(beside: Path, kept: _Kept) -> str | None:
    """What is wrong with the safetensors beside a checkpoint that is whole, in words.

    Those of another epoch are what an interruption leaves, and no damage.
    """
    try:
        other = _kept_beside(beside)
    except Unreadable as damaged:
        return damaged.reason
    if other.best.scores.epoch != kept.best.scores.epoch:
        return None
    same = other.weights.keys() == kept.weights.keys() and all(
        np.array_equal(_bytes_of(tensor), _bytes_of(kept.weights[name]))
        for name, tensor in other.weights.items()
    )
    return None if same else "its weights are not those of the checkpoint"


def _checksum(weights: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """32 hex digits over names, types, shapes and bytes of all weights, and what is said."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(dict(sorted(about.items()))).encode())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_bytes_of(tensor).data)
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """The numbers of a tensor as bytes, which are compared as such: NaN is itself."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    found: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return found


_SCORES = tuple(Validation.__dataclass_fields__)
