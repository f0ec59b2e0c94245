"""The files of a run: where they are, what the epoch log holds, whether a stage is done.

A run is the folder `<out>/<imagenet_pretrained or from_scratch>/<data set>`, with one folder
a stage. Knows paths and small JSON and CSV files; checkpoints are `checkpoint`'s.
"""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from distill.base.files import write_json, write_text
from distill.base.reading import JOURNAL_BYTES, read_plain
from distill.spec.candidate import Candidate, Count, StageName
from distill.spec.file_values import Bytes, ReadPins
from distill.spec.image_source import safe_name
from distill.spec.profile import Choice
from distill.spec.recipe import Recipe
from distill.spec.validated import read_as

BEST_NAME = re.compile(r"best_acc_\d{1,3}\.\d\d\.(pth|safetensors)")

MANIFEST = "run.json"
START_OVER = "Start over with --fresh, or use the program that made it."

Share = Annotated[float, Field(ge=0, le=1 + 1e-6)]
"""A fraction; means of 32-bit numbers may be rounded to a little more than all."""

Elapsed = Annotated[float, Field(ge=0)]

TIME_PARTS = {
    "update": "updates",
    "input": "input",
    "evaluation": "validation",
    "saving": "saving",
}
"""The parts of an epoch's time: their names in rows and results, and their titles."""

SHORT_NAMES = {
    "vit_base_patch16_224": "vit_base",
    "vit_small_patch16_224": "vit_small",
    "vit_tiny_patch16_224": "vit_tiny",
}


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One line of the epoch log; the names and their order are the CSV's.

    The first fourteen are fixed; what came later follows them. Accuracies are fractions, `epoch`
    counts from 1, `gpu_memory_mb` is the epoch's peak of reserved memory in MiB and `None` where
    there is no GPU, the AUCs `None` where there are too many classes for them. The epoch's time is
    the sum of its parts: updates, waiting for their images, validation and scores, saving. Of an
    epoch that an earlier version trained the parts are not known; of the last one before an
    interruption its saving is not.
    """

    epoch: Count
    train_loss: float
    train_accuracy: Share
    train_precision: Share
    train_recall: Share
    train_f1_score: Share
    val_loss: float
    val_accuracy: Share
    val_precision: Share
    val_recall: Share
    val_f1_score: Share
    learning_rate: Annotated[float, Field(ge=0)]
    epoch_time_sec: Elapsed
    gpu_memory_mb: Annotated[float, Field(ge=0)] | None
    train_auc: Share | None = None
    val_auc: Share | None = None
    update_time_sec: Elapsed | None = None
    input_time_sec: Elapsed | None = None
    evaluation_time_sec: Elapsed | None = None
    saving_time_sec: Elapsed | None = None

    def saved_in(self, seconds: float) -> "EpochRow":
        """The same epoch, now that it is known how long saving it took."""
        return replace(self, epoch_time_sec=self.epoch_time_sec + seconds, saving_time_sec=seconds)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The result of a finished stage: the best checkpoint's scores on the untouched test images.

    `train_seconds` is the time of all epochs; its parts are those of the epochs of which all parts
    are known, `None` where they are of none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # another version's is not half read

    stage: StageName
    model: str
    parameters: Annotated[int, Field(ge=0)]
    best_epoch: Count
    val_accuracy: Share
    test_accuracy: Share
    test_precision: Share
    test_recall: Share
    test_f1_score: Share
    test_images: Count
    epochs: Count
    train_seconds: Elapsed
    peak_reserved_bytes: Bytes | None
    device: str
    checkpoint: Annotated[str, Field(pattern=rf"^{BEST_NAME.pattern}$")]
    test_auc: Share | None = None
    update_seconds: Elapsed | None = None
    input_seconds: Elapsed | None = None
    evaluation_seconds: Elapsed | None = None
    saving_seconds: Elapsed | None = None


class StageConfig(BaseModel):
    """What is needed of the values that a stage was trained with, as they lie beside its log."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    pins: ReadPins | None = None
    choice: Choice | None = None
    target: str | None = None
    weights: str | None = None
    teacher: str | None = None


class RunManifest(BaseModel):
    """What is needed of a run's `run.json`: the recipe's values, the data's marks, the threads."""

    model_config = ConfigDict(frozen=True)

    values: dict[str, Any]
    data: dict[str, int | str] | None = None
    threads: Count | None = None


@dataclass(frozen=True)
class StageFolder:
    """One stage's folder. `label` is the model's short name and the stage."""

    root: Path
    label: str

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def latest(self) -> Path:
        return self.checkpoints / "latest.pth"

    @property
    def previous(self) -> Path:
        return self.checkpoints / "previous.pth"

    @property
    def events(self) -> Path:
        return self.root / "logs" / f"{self.label}_events.jsonl"

    @property
    def memory_log(self) -> Path:
        return self.root / "logs" / f"{self.label}_memory.csv"

    @property
    def visualizations(self) -> Path:
        return self.root / "visualizations"

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.label}_log.csv"

    @property
    def config(self) -> Path:
        return self.root / "logs" / f"{self.label}_config.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def best_files(self) -> list[Path]:
        """Every best checkpoint there; more than one only after an interruption."""
        return [path for path in self.bests() if path.suffix == ".pth"]

    def bests(self) -> list[Path]:
        """The best checkpoints and their safetensors; nothing that a user put there."""
        found = sorted(self.checkpoints.glob("best_acc_*"))
        return [path for path in found if BEST_NAME.fullmatch(path.name)]


def run_folder(out: Path, recipe: Recipe) -> Path:
    """The folder of a recipe's run below `out`."""
    origin = "imagenet_pretrained" if recipe.pretrained else "from_scratch"
    return out / origin / safe_name(recipe.dataset)


def stage_folder(run: Path, recipe: Recipe, stage: StageName) -> StageFolder:
    """The folder of one stage of a run."""
    model = recipe.stage_named(stage).model.name
    return StageFolder(run / stage, f"{SHORT_NAMES.get(model, model)}_{stage}")


def stage_has_begun(folder: Path) -> bool:
    """True if a stage's folder holds training that could be lost."""
    checkpoints = folder / "checkpoints"
    files = (folder / "result.json", checkpoints / "latest.pth", checkpoints / "previous.pth")
    return any(file.exists() for file in files)


def document_differences(there: Any, here: Any, where: str = "") -> list[str]:
    """The differences between two documents, as `training.epochs 2 there, 3 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            line
            for key in [*there, *(key for key in here if key not in there)]
            for line in document_differences(
                there.get(key), here.get(key), f"{where}.{key}".lstrip(".")
            )
        ]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [
            line
            for index, pair in enumerate(zip(there, here, strict=True))
            for line in document_differences(*pair, f"{where}.{index}")
        ]
    return [] if there == here else [f"{where} {there} there, {here} here"]


def write_log(path: Path, rows: Sequence[EpochRow]) -> None:
    """The whole epoch log, so that an interruption neither doubles nor loses a line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def logged_epochs(path: Path) -> int:
    """The number of epochs in a log; 0 where there is none that can be read."""
    try:
        lines = read_plain(path, JOURNAL_BYTES).splitlines()
    except OSError:
        return 0
    return max(0, len(lines) - 1)


def write_result(folder: StageFolder, result: StageResult) -> None:
    """Mark a stage as finished."""
    write_json(folder.result, asdict(result))


def read_result(folder: StageFolder) -> StageResult | None:
    """The result of a finished stage whose best checkpoint is still there, else `None`.

    Raises `UserError` for what is no result.
    """
    if not os.path.lexists(folder.result):
        return None
    result = read_as(StageResult, folder.result, cure=START_OVER)
    return result if (folder.checkpoints / result.checkpoint).exists() else None


def read_config(folder: StageFolder) -> StageConfig:
    """The values that a stage was trained with. Raises `UserError` when they are gone or wrong."""
    return read_as(StageConfig, folder.config, cure=START_OVER)


def read_manifest(run: Path) -> RunManifest:
    """What a run wrote down of itself. Raises `UserError` when it is gone or wrong."""
    return read_as(RunManifest, run / MANIFEST, cure=START_OVER)
