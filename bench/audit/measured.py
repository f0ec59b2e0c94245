"""Peaks that cards recorded of the write-up's own configurations, each with its evidence file.

Reads evidence files; asks no card.
"""

from dataclasses import dataclass
from pathlib import Path

from bench.evidence.comparison import RESERVED_PEAK
from bench.evidence.recording import Recording, read_recordings
from distill.spec.candidate import Checkpointing, Precision, StageName

Configuration = tuple[StageName, int, Precision, Checkpointing]
"""Stage, batch, precision, checkpointing."""


@dataclass(frozen=True)
class RecordedPeak:
    """The largest reserved peak that was recorded of a configuration, and where it stands."""

    reserved_bytes: int
    card: str
    file: Path


def recorded_peaks(folder: Path) -> dict[Configuration, RecordedPeak]:
    """Peaks of updates of one micro-batch with foreach AdamW, as the write-up has them.

    Of several recordings the largest counts: an update that the gradient scaler skipped takes less.
    """
    found: dict[Configuration, RecordedPeak] = {}
    for path in sorted(folder.rglob("*.json.gz")):
        recordings = read_recordings(path)
        for recording in recordings.recordings:
            if not _is_the_write_ups(recording):
                continue
            candidate = recording.candidate
            key = (
                candidate.stage,
                candidate.micro_batch,
                candidate.precision,
                candidate.checkpointing,
            )
            peak = recording.statistics[RESERVED_PEAK]
            if key not in found or peak > found[key].reserved_bytes:
                found[key] = RecordedPeak(peak, recordings.target.title, path)
    return found


def _is_the_write_ups(recording: Recording) -> bool:
    candidate = recording.candidate
    return (
        recording.source == "recorded"
        and candidate.accumulation == 1
        and candidate.implementation == "foreach"
    )
