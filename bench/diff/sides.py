"""The two sides of a difference as values: what each holds, and what its numbers are of.

Reads profiles, journals, baselines and answers of `bench predict --json`; names of configurations
are left to `again`, which predicts them. Loads no torch.
"""

import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.compare.baseline import cell_name, read_baseline
from bench.diff.cell_labels import EXAMPLE
from bench.predict.document import FitDocument, LargestBatchDocument, PredictionDocument
from bench.trials.journal import MOVE_AWAY, trial_of
from bench.trials.trial import Measured, Predicted, Trial
from distill.base.errors import UserError
from distill.base.reading import MOST_BYTES, parsed_json, read_json, read_lines, read_plain
from distill.device.fingerprint import release
from distill.spec.candidate import Candidate
from distill.spec.profile import Choice, NumberSource, Profile, Target, read_profile
from distill.spec.validated import document_as, reason_of

SideKind = Literal["configuration", "profile", "journal", "baseline", "prediction"]
ByOwner = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class DiffItem:
    """One configuration of a side. `None` is not known.

    `source` is of the peaks and of `images_per_second`; `breakdown` and `ops` are predicted.
    `card` is the item's own, where a side has numbers of several; `outcome` is another than ok
    where a trial did not go through.
    """

    name: str
    stage: str
    source: NumberSource
    reserved_bytes: int | None
    allocated_bytes: int | None = None
    requested_bytes: int | None = None
    breakdown: ByOwner = field(default_factory=dict)
    ops: Mapping[str, ByOwner] | None = None
    images_per_second: float | None = None
    candidate: Candidate | None = None
    card: str | None = None
    outcome: str = "ok"


@dataclass(frozen=True, kw_only=True)
class DiffSide:
    """What a file holds, or one configuration. `environment` says of what its numbers are."""

    title: str
    kind: SideKind
    environment: Mapping[str, str]
    items: Sequence[DiffItem]
    target: Target | None = None


def read_side(path: Path) -> DiffSide:
    """What a file holds. Raises `UserError` for one that holds no configurations."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _journal(path)
    cure = f"Name a profile, a journal, a baseline, or a configuration such as {EXAMPLE}."
    document = read_json(path, "", unreadable_cure=cure, damaged_cure=cure)
    keys = set(document) if isinstance(document, dict) else set()
    if "choices" in keys:
        return _profile(path, read_profile(path))
    if "cells" in keys:
        return _baseline(path)
    if keys & {"peak_reserved_bytes", "max_batch"}:
        return _prediction(path, document)
    raise UserError(f"{path} holds no configurations that are known here. {cure}")


def _profile(path: Path, profile: Profile) -> DiffSide:
    mark = profile.fingerprint
    return DiffSide(
        title=str(path),
        kind="profile",
        environment=_said(
            torch=mark.torch,
            timm=mark.timm,
            driver=mark.driver,
            card=profile.target.name,
            recipe=profile.recipe.name,
            digest=profile.recipe.digest,
            allocator=profile.allocator,
            status=profile.status,
        ),
        items=[_chosen(choice) for choice in profile.choices],
        target=profile.target,
    )


def _chosen(choice: Choice) -> DiffItem:
    return DiffItem(
        name=cell_name(choice.candidate),
        stage=choice.stage,
        source=choice.source,
        reserved_bytes=choice.peak_reserved_bytes,
        breakdown=choice.breakdown,
        images_per_second=choice.images_per_second,
        candidate=choice.candidate,
    )


def _baseline(path: Path) -> DiffSide:
    baseline = read_baseline(path)
    return DiffSide(
        title=str(path),
        kind="baseline",
        environment=_said(
            torch=baseline.torch,
            timm=baseline.timm,
            card=baseline.target,
            recipe=baseline.recipe,
            allocator=baseline.allocator,
        ),
        items=[
            DiffItem(
                name=cell.name,
                stage=cell.name.partition("/")[0],
                source="predicted",
                reserved_bytes=cell.reserved_bytes,
                allocated_bytes=cell.allocated_bytes,
                requested_bytes=cell.requested_bytes,
                breakdown=cell.breakdown,
                ops=cell.ops,
            )
            for cell in baseline.cells
        ],
    )


def _journal(path: Path) -> DiffSide:
    """The last trial of each configuration, predicted and measured ones apart."""
    last: dict[tuple[Candidate, str], Trial] = {}
    for document in _lines(path):
        trial = trial_of(path, document)
        measured = isinstance(trial.reading, Measured)
        last[trial.candidate, "measured" if measured else "predicted"] = trial
    if not last:
        raise UserError(f"{path} holds no trial. Name a journal of bench probe.")
    trials = list(last.values())
    conditions = [trial.conditions for trial in trials]
    return DiffSide(
        title=str(path),
        kind="journal",
        environment=_said(
            torch=_all(release(one.torch) for one in conditions),
            timm=_all(one.timm for one in conditions),
            driver=_all(one.driver for one in conditions),
            card=_all(one.card for one in conditions),
            allocator=_all(trial.pins.allocator for trial in trials),
        ),
        items=[_tried(trial) for trial in trials],
    )


def _tried(trial: Trial) -> DiffItem:
    reading = trial.reading
    return DiffItem(
        name=cell_name(trial.candidate),
        stage=trial.candidate.stage,
        source="measured" if isinstance(reading, Measured) else "predicted",
        reserved_bytes=None if reading is None else reading.reserved_bytes,
        allocated_bytes=None if reading is None else reading.allocated_bytes,
        requested_bytes=None if reading is None else reading.requested_bytes,
        breakdown=reading.breakdown if isinstance(reading, Predicted) else {},
        images_per_second=trial.images_per_second,
        candidate=trial.candidate,
        card=trial.conditions.card,
        outcome=trial.outcome,
    )


def _lines(path: Path) -> list[Any]:
    if not path.name.endswith(".gz"):
        if not path.exists():
            raise UserError(f"There is no journal {path}. Name one of bench probe.")
        return read_lines(path)[0]
    try:
        with gzip.open(io.BytesIO(read_plain(path))) as packed:
            text = packed.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError("unpacked it is too large")
        return [parsed_json(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"Cannot read journal {path}: {reason_of(error)}. {MOVE_AWAY}") from error


def _prediction(path: Path, document: dict[str, Any]) -> DiffSide:
    cure = "Make it again: bench predict --json."
    found: PredictionDocument | None
    if "max_batch" in document:
        found = document_as(LargestBatchDocument, document, str(path), cure).prediction
    else:
        found = document_as(FitDocument, document, str(path), cure)
    if found is None:
        raise UserError(f"{path} says that no batch fits: there is nothing to compare. {cure}")
    return side_of_prediction(str(path), "prediction", found)


def side_of_prediction(title: str, kind: SideKind, found: PredictionDocument) -> DiffSide:
    """One prediction as a side."""
    item = DiffItem(
        name=cell_name(found.candidate),
        stage=found.candidate.stage,
        source="predicted",
        reserved_bytes=found.peak_reserved_bytes,
        allocated_bytes=found.peak_allocated_bytes,
        requested_bytes=found.peak_requested_bytes,
        breakdown=found.breakdown,
        images_per_second=found.timing.images_per_second,
        candidate=found.candidate,
    )
    environment = _said(torch=found.torch, card=found.target.name, allocator=found.pins.allocator)
    return DiffSide(
        title=title, kind=kind, environment=environment, items=[item], target=found.target
    )


def _said(torch: str | None, **values: str | None) -> dict[str, str]:
    """What is known, torch without the build that it came in, which some files leave out."""
    values["torch"] = None if torch is None else release(torch)
    return {name: value for name, value in values.items() if value is not None}


def _all(values: Any) -> str | None:
    """Every value that occurs, in a few words."""
    there = list(dict.fromkeys(value for value in values if value is not None))
    return " and ".join(map(str, there[:4])) or None
