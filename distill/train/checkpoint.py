"""Checkpoints: `latest.pth` to go on from, one `best_acc_NN.NN.pth` to teach and to keep.

Both are written whole and read with `weights_only=True`. The `latest.pth` before is kept as
`previous.pth`, in case the disk loses the newer one; the best weights lie beside as safetensors.
Which checkpoint is best is read from what was recorded in it, never from names or file order.
"""

import json
import pickle
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from distill.base.errors import UserError
from distill.base.files import write_whole
from distill.spec.candidate import Criterion
from distill.step.models import load_state
from distill.train.criterion import Validation, validation_of
from distill.train.metrics import Tally
from distill.train.run_folder import EpochRow, StageFolder

SCHEMA = 3

DAMAGES = (
    *(OSError, EOFError, RuntimeError, BadZipFile, pickle.UnpicklingError, zlib.error),
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError),
)
"""What reading a damaged file raises, depending on where the damage is."""


class Unreadable(UserError):
    """A checkpoint that is damaged."""


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

    epoch: int
    update: int
    planned: int
    micro_batch: int


@dataclass
class PartialEpoch:
    """The part of an epoch that is done: its updates, and each image's outcome."""

    updates: int = 0
    seconds: float = 0.0
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
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
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
    write_whole(folder.latest, lambda stream: _write(document, stream), previous=folder.previous)


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
    document = _latest_whole(folder, say)
    if document is None:
        return Position(rows=[], partial=None)
    others = [name for name, mark in asdict(identity).items() if document["identity"][name] != mark]
    if others:
        raise UserError(
            f"{folder.latest} was begun with another {' and another '.join(others)}. "
            "Choose another folder with --out, or start over with --fresh."
        )
    load_state(student, document["student"], str(folder.latest))
    _load_optimizer(optimizer, document["optimizer"])
    if document["scaler"]:  # empty where the run had no use for one
        scaler.load_state_dict(document["scaler"])
    if torch.get_num_threads() != document["threads"]:
        torch.set_num_threads(document["threads"])
    saved = document["partial"]
    return Position(
        rows=[EpochRow(**row) for row in document["rows"]],
        partial=None if saved is None else _partial(**saved),
        lowered=[Lowered(**one) for one in document["lowered"]],
    )


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The saved state under the implementation that is used now, which the device may ask for."""
    for there, here in zip(state["param_groups"], optimizer.param_groups, strict=True):
        there |= {name: here[name] for name in ("fused", "foreach") if name in here}
    optimizer.load_state_dict(state)


def save_best(
    folder: StageFolder,
    row: EpochRow,
    student: nn.Module,
    classes: Sequence[str] = (),
    criterion: Criterion = "accuracy",
) -> Path:
    """Keep these weights as the best; `drop_superseded` removes the best before them.

    `classes` are the names of the outputs, which go with the safetensors.
    """
    path = folder.checkpoints / f"best_acc_{100 * row.val_accuracy:.2f}.pth"
    best = {**asdict(validation_of(row)), "criterion": criterion}
    document = {"schema": SCHEMA, **best, "student": student.state_dict()}
    write_whole(path, lambda stream: _write(document, stream))
    about = {"best": json.dumps(best), "classes": json.dumps(list(classes))}
    weights = {name: value.contiguous() for name, value in student.state_dict().items()}
    write_whole(weights_beside(path), lambda stream: stream.write(save(weights, about)))
    return path


def weights_beside(best: Path) -> Path:
    """The path of the same weights as safetensors."""
    return best.with_suffix(".safetensors")


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
    recorded: list[tuple[Validation, Criterion, Path]] = []
    for path in folder.best_files():
        document = _read_best(path)
        known = [name for name in Validation.__dataclass_fields__ if name in document]
        scores = Validation(**{name: document[name] for name in known})
        recorded.append((scores, document.get("criterion", "accuracy"), path))
    if not recorded:
        return None
    _, criterion, _ = max(recorded, key=lambda entry: entry[0].epoch)
    scores, _, path = max(recorded, key=lambda entry: entry[0].rank(criterion))
    return path, scores.epoch, scores.val_accuracy


def load_weights(path: Path, model: nn.Module) -> None:
    """Put a best checkpoint's weights into a model of the same shape."""
    load_state(model, _read_best(path).get("student", {}), str(path))


def _read_best(path: Path) -> dict[str, Any]:
    """A best checkpoint; where it is damaged, what the safetensors beside it hold of it."""
    try:
        return _read(path)
    except Unreadable as damaged:
        try:
            with safe_open(weights_beside(path), framework="pt") as file:
                best = json.loads(file.metadata()["best"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, LookupError, TypeError, ValueError):
            raise damaged from damaged.__cause__
    return {**best, "schema": SCHEMA, "student": weights}


def _latest_whole(folder: StageFolder, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest resumable checkpoint that can be read; `None` where there was none yet."""
    if not folder.latest.exists() and not folder.previous.exists():
        return None
    try:
        return _read(folder.latest)
    except Unreadable as error:
        if not folder.previous.exists():
            raise
        document = _read(folder.previous)
        what = "is damaged" if folder.latest.exists() else "is missing"
        say(f"{folder.latest} {what} ({error.__cause__}); goes on from {folder.previous.name}")
        return document


def _write(document: dict[str, Any], stream: BinaryIO) -> None:
    """`torch.save`, telling a full disk as the OSError that it is."""
    try:
        torch.save(document, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _partial_document(partial: PartialEpoch) -> dict[str, Any]:
    """The part of an epoch as plain values; many small tensors of one kind become one."""
    tally = partial.tally
    return {
        "updates": partial.updates,
        "seconds": partial.seconds,
        "peak_reserved_bytes": partial.peak_reserved_bytes,
        "tally": {
            "loss_sum": tally.loss_sum,
            "predicted": _joined(tally.predicted),
            "labels": _joined(tally.labels),
            "logits": _joined(tally.logits),
        },
    }


def _partial(*, tally: dict[str, Any], **rest: Any) -> PartialEpoch:
    return PartialEpoch(**rest, tally=Tally(**tally))


def _joined(parts: list[Tensor]) -> list[Tensor]:
    return [torch.cat(parts)] if parts else []


def _read(path: Path) -> dict[str, Any]:
    try:
        with ZipFile(path) as archive:  # torch.load itself looks at no checksum
            if (member := archive.testzip()) is not None:
                raise BadZipFile(f"{member} is damaged")
        document = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise Unreadable(
            f"Checkpoint {path} can't be read ({type(error).__name__}). "
            "Remove it to train this stage again."
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"Checkpoint {path} has another schema. Start over with --fresh.")
    return document
