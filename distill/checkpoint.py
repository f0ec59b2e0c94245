"""Checkpoints: `latest.pth` to go on from, one `best_acc_NN.NN.pth` to teach and to keep.

Both are written whole and read with `weights_only=True`. Which checkpoint is best is read
from what was recorded in it, never from names or file order.
"""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from distill.errors import UserError
from distill.files import write_whole
from distill.models import load_state
from distill.runs import EpochRow, StageFolder

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint belongs to; one that belongs to anything else is not continued."""

    stage: str
    recipe: str
    teacher: str | None


@dataclass
class PartialEpoch:
    """What an epoch has gathered so far: how many updates, and each image's outcome."""

    updates: int
    loss_sum: float
    predicted: list[Tensor]
    labels: list[Tensor]
    seconds: float
    peak_reserved_bytes: int | None


@dataclass
class Position:
    """Where training stands: the finished epochs, and what the current one has so far."""

    rows: list[EpochRow]
    partial: PartialEpoch | None

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return len(self.rows)

    def best(self) -> EpochRow | None:
        """The finished epoch with the highest validation accuracy; the earliest of equals."""
        return max(self.rows, key=lambda row: (row.val_accuracy, -row.epoch), default=None)


def save_latest(
    folder: StageFolder,
    identity: Identity,
    position: Position,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
) -> None:
    """Everything that training needs to go on."""
    partial = position.partial
    document = {
        "schema": SCHEMA,
        "identity": asdict(identity),
        "rows": [asdict(row) for row in position.rows],
        "partial": None
        if partial is None
        else {
            **asdict(partial),
            "predicted": _joined(partial.predicted),
            "labels": _joined(partial.labels),
        },
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "threads": torch.get_num_threads(),
    }
    write_whole(folder.latest, lambda stream: torch.save(document, stream))


def load_latest(
    folder: StageFolder,
    identity: Identity,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
) -> Position:
    """Put the state of `latest.pth` into the parts; a fresh position when there is none.

    Raises `UserError` when the file belongs to other work or is damaged.
    """
    if not folder.latest.exists():
        return Position(rows=[], partial=None)
    document = _read(folder.latest)
    if document.get("identity") != asdict(identity):
        raise UserError(
            f"{folder.latest} belongs to {document.get('identity')}, not to {asdict(identity)}. "
            "Choose another folder with --out, or start over with --fresh."
        )
    load_state(student, document["student"], str(folder.latest))
    optimizer.load_state_dict(document["optimizer"])
    scaler.load_state_dict(document["scaler"])
    if torch.get_num_threads() != document["threads"]:
        torch.set_num_threads(document["threads"])
    saved = document["partial"]
    partial = None
    if saved is not None:
        partial = PartialEpoch(
            **{**saved, "predicted": [saved["predicted"]], "labels": [saved["labels"]]}
        )
    return Position(rows=[EpochRow(**row) for row in document["rows"]], partial=partial)


def save_best(folder: StageFolder, row: EpochRow, student: nn.Module) -> None:
    """Keep these weights as the best, then remove the best before them."""
    before = folder.best_files()
    path = folder.checkpoints / f"best_acc_{100 * row.val_accuracy:.2f}.pth"
    document = {
        "schema": SCHEMA,
        "epoch": row.epoch,
        "val_accuracy": row.val_accuracy,
        "student": student.state_dict(),
    }
    write_whole(path, lambda stream: torch.save(document, stream))
    for old in before:
        if old != path:
            old.unlink()


def find_best(folder: StageFolder) -> tuple[Path, int, float] | None:
    """The best checkpoint by recorded validation accuracy: its file, epoch (from 1), accuracy."""
    recorded = []
    for path in folder.best_files():
        document = _read(path)
        recorded.append((document["val_accuracy"], -document["epoch"], path))
    if not recorded:
        return None
    accuracy, minus_epoch, path = max(recorded, key=lambda entry: entry[:2])
    return path, -minus_epoch, accuracy


def load_weights(path: Path, model: nn.Module) -> None:
    """Put a best checkpoint's weights into a model of the same shape."""
    load_state(model, _read(path)["student"], str(path))


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, BadZipFile, pickle.UnpicklingError) as error:
        raise UserError(
            f"Checkpoint {path} can't be read ({type(error).__name__}). "
            "Remove it to train this stage again."
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"Checkpoint {path} has another schema. Start over with --fresh.")
    return document
