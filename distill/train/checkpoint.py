"""The checkpoint to go on from: `latest.pth`, and the one before it as `previous.pth`.

Written whole. Read whole by its checksums, and each field checked before any is used; what is
damaged is told and the one before it taken. The best weights are `best_weights`'.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from distill.base.errors import UserError
from distill.base.files import write_whole
from distill.spec.candidate import Count
from distill.spec.file_values import Bytes
from distill.step.models import load_state
from distill.train.archive import (
    DAMAGES,
    SCHEMA,
    Unreadable,
    plain_fields,
    read_archive,
    tensors_by_name,
    write_archive,
)
from distill.train.copied_state import HasState
from distill.train.metrics import Tally
from distill.train.optimizer_state import load_optimizer, optimizer_problem, scaler_problem
from distill.train.run_folder import EpochRow, StageFolder


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The work that a checkpoint belongs to; a checkpoint of other work is not continued.

    `teacher` and `weights` are hashes of the files that teach and that training starts from.
    """

    stage: str
    recipe: str
    teacher: str | None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """Memory ended in `epoch` at `update`, both from 1; `micro_batch` images at a time since."""

    epoch: Count
    update: Count
    planned: Count
    micro_batch: Count


@dataclass
class PartialEpoch:
    """The part of an epoch that is done: its updates, and each image's outcome.

    `seconds` went to updates, `input_seconds` to waiting for their images: `None` where an earlier
    version, which did not look, began the epoch.
    """

    updates: int = 0
    seconds: float = 0.0
    input_seconds: float | None = 0.0
    peak_reserved_bytes: int | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass
class Position:
    """The place of training: the finished epochs, and the part of the current one that is done.

    `best` is the epoch whose weights are kept.
    """

    rows: list[EpochRow]
    partial: PartialEpoch | None
    lowered: list[Lowered] = field(default_factory=list)
    best: EpochRow | None = None

    def micro_batch(self, planned: int) -> int:
        """Images at a time: as planned, or less since memory ended under the same plan."""
        if self.lowered and self.lowered[-1].planned == planned:
            return self.lowered[-1].micro_batch
        return planned

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return len(self.rows)


def save_latest(
    folder: StageFolder,
    identity: Identity,
    position: Position,
    student: HasState,
    optimizer: HasState,
    scaler: HasState,
) -> None:
    """Write everything that training needs to go on."""
    partial = position.partial
    document = {
        "schema": SCHEMA,
        "identity": asdict(identity),
        "rows": [asdict(row) for row in position.rows],
        "lowered": [asdict(one) for one in position.lowered],
        "partial": None if partial is None else _partial_document(partial),
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "threads": torch.get_num_threads(),
    }
    write_whole(
        folder.latest, lambda stream: write_archive(document, stream), previous=folder.previous
    )


def load_latest(
    folder: StageFolder,
    identity: Identity,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
    say: Callable[[str], None] = print,
) -> Position:
    """Put the state of `latest.pth` into the parts; a fresh position when there is none.

    A damaged file is told with `say` and `previous.pth` taken. Raises `UserError` when the file
    belongs to other work, or both are damaged.
    """
    saved = _latest_whole(folder, optimizer, say)
    if saved is None:
        return Position(rows=[], partial=None)
    there = asdict(saved.plain.identity)
    others = [name for name, mark in asdict(identity).items() if there[name] != mark]
    if others:
        raise UserError(
            f"{folder.latest} was begun with another {' and another '.join(others)}. "
            "Choose another folder with --out, or start over with --fresh."
        )
    load_state(student, saved.student, str(folder.latest))
    load_optimizer(optimizer, saved.optimizer)
    if saved.scaler:  # empty where the run had no use for one
        scaler.load_state_dict(saved.scaler)
    return Position(
        rows=list(saved.plain.rows), partial=saved.partial, lowered=list(saved.plain.lowered)
    )


class _PlainPartial(BaseModel):
    """The part of an epoch that is done, without its tally."""

    updates: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    input_seconds: Annotated[float, Field(ge=0)] | None = None
    peak_reserved_bytes: Bytes | None


class _Plain(BaseModel):
    """The fields of a checkpoint that are plain values."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    rows: tuple[EpochRow, ...]
    lowered: tuple[Lowered, ...]
    partial: _PlainPartial | None
    threads: Annotated[int, Field(ge=1, le=4096)]

    @model_validator(mode="after")
    def _counts_on(self) -> "_Plain":
        if [row.epoch for row in self.rows] != list(range(1, len(self.rows) + 1)):
            raise ValueError("its epochs do not count on from 1")
        return self


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """A checkpoint, every field of it checked."""

    plain: _Plain
    partial: PartialEpoch | None
    student: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


def _read(path: Path, optimizer: torch.optim.Optimizer) -> _Saved:
    """The checkpoint in a file. Raises `Unreadable` when a part of it can't be used."""
    document = read_archive(path)
    plain_names = _Plain.model_fields.keys() & document.keys()
    shown = {name: document[name] for name in plain_names}
    tally = None
    if isinstance(shown.get("partial"), dict):
        shown["partial"] = dict(shown["partial"])
        tally = shown["partial"].pop("tally", None)
    plain: _Plain = plain_fields(path, _Plain, shown)
    state, scaler = document.get("optimizer"), document.get("scaler")
    problem = optimizer_problem(state, optimizer) or scaler_problem(scaler)
    if problem is not None:
        raise Unreadable(path, problem)
    assert isinstance(state, dict) and isinstance(scaler, dict)
    partial = None
    if plain.partial is not None:
        partial = PartialEpoch(**plain.partial.model_dump(), tally=_tally(path, tally))
    return _Saved(
        plain=plain,
        partial=partial,
        student=tensors_by_name(path, document.get("student")),
        optimizer=state,
        scaler=scaler,
    )


def _tally(path: Path, document: Any) -> Tally:
    """The outcomes of a part of an epoch. Raises `Unreadable` where they are none."""
    try:
        tally = Tally(**document)
        whole = (
            isinstance(tally.loss_sum, float)
            and all(len(part) <= 1 for part in (tally.predicted, tally.labels, tally.logits))
            and all(map(_is_labels, [*tally.predicted, *tally.labels]))
            and [p.shape for p in tally.predicted] == [p.shape for p in tally.labels]
            and [len(p) for p in tally.logits] in ([], [len(p) for p in tally.labels])
            and all(p.ndim == 2 and p.is_floating_point() for p in tally.logits)
        )
    except DAMAGES as error:
        raise Unreadable(path, "it holds no tally of a part of an epoch") from error
    if not whole:
        raise Unreadable(path, "its tally of a part of an epoch is not possible")
    return tally


def _is_labels(part: Tensor) -> bool:
    return part.dtype == torch.int64 and (not part.numel() or bool(part.min() >= 0))


def _latest_whole(
    folder: StageFolder, optimizer: torch.optim.Optimizer, say: Callable[[str], None]
) -> _Saved | None:
    """The newest resumable checkpoint that can be used; `None` where there was none yet."""
    latest_is_there, previous_is_there = map(os.path.lexists, (folder.latest, folder.previous))
    if not latest_is_there and not previous_is_there:
        return None
    try:
        return _read(folder.latest, optimizer)
    except Unreadable as error:
        if not previous_is_there:
            raise
        saved = _read(folder.previous, optimizer)
        what = "is damaged" if latest_is_there else "is missing"
        say(f"{folder.latest} {what} ({error.reason}); goes on from {folder.previous.name}")
        return saved


def _partial_document(partial: PartialEpoch) -> dict[str, Any]:
    """The part of an epoch as plain values; many small tensors of one kind become one."""
    tally = partial.tally
    return {
        "updates": partial.updates,
        "seconds": partial.seconds,
        "input_seconds": partial.input_seconds,
        "peak_reserved_bytes": partial.peak_reserved_bytes,
        "tally": {
            "loss_sum": tally.loss_sum,
            "predicted": _joined(tally.predicted),
            "labels": _joined(tally.labels),
            "logits": _joined(tally.logits),
        },
    }


def _joined(parts: list[Tensor]) -> list[Tensor]:
    return [torch.cat(parts)] if parts else []
