"""Recordings held against today's prediction: signed errors, and what is missing by name.

The prediction is made anew, so an evidence file taken once judges every later version of the
code, on any machine and without a GPU. Traces in processes of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.evidence.allocator_check import Mismatch, check_allocator
from bench.evidence.recording import Recording, RecordingSet, read_recordings
from bench.evidence.request_gaps import gap_rows, gaps
from bench.simulate.families import map_traces
from bench.simulate.predictor import Predictor
from bench.simulate.torch_rules import rules_of
from distill.report.tables import Row, as_markdown
from distill.spec.profile import Target

NONE_YET = (
    "No recording of a card lies there. `bench evidence --minutes 9 --out DIR` records them on one."
)

RESERVED_PEAK = "reserved_bytes.all.peak"

MEASURES = ("requested", "allocated", "reserved")


@dataclass(frozen=True, kw_only=True)
class ComparedRecording:
    """One recording and its prediction, in bytes, in the order of `MEASURES`.

    `mismatches` are of the allocator alone, `missing` of the requests; both `None` where the
    recording kept no history.
    """

    recording: Recording
    predicted: tuple[int, int, int]
    reserved_max: int
    mismatches: tuple[Mismatch, ...] | None
    missing: tuple[Row, ...] | None

    @property
    def recorded(self) -> tuple[int, ...]:
        """The peaks that the card reported."""
        return tuple(self.recording.statistics[f"{name}_bytes.all.peak"] for name in MEASURES)

    @property
    def is_above_maximum(self) -> bool:
        """True if the card reserved more than was predicted as the most."""
        return self.recorded[2] > self.reserved_max

    @property
    def errors(self) -> tuple[int, ...]:
        """Predicted − recorded."""
        return tuple(p - r for p, r in zip(self.predicted, self.recorded, strict=True))


def compare_recording(
    recording: Recording, target: Target, torch: str | None = None
) -> ComparedRecording:
    """Predict the recorded candidate on the recorded card and compare. Loads torch.

    The allocator is held to the rules of the `torch` that recorded, the installed one if none is
    named; requests are those of the installed one.
    """
    predictor = Predictor(target, recording.pins.allocator)
    prediction = predictor.predict(recording.candidate)
    mismatches, missing = None, None
    rules = None if torch is None else rules_of(torch)
    if recording.history is not None:
        program, run = predictor.run(recording.candidate)
        mismatches = tuple(check_allocator(recording, target.total_bytes, rules))
        missing = tuple(gap_rows(gaps(recording, program, run.peak.sizes)))
    return ComparedRecording(
        recording=recording,
        predicted=(prediction.requested, prediction.allocated, prediction.reserved),
        reserved_max=prediction.reserved_max,
        mismatches=mismatches,
        missing=missing,
    )


def compare_all(files: Iterable[RecordingSet]) -> list[ComparedRecording]:
    """Every recording of the files; many of them on all cores, with no GPU in their sight."""
    asked = [(one, golden.target, golden.torch) for golden in files for one in golden.recordings]
    return map_traces(_compare_asked, asked, kept="The recordings are as they were.")


def _compare_asked(asked: tuple[Recording, Target, str]) -> ComparedRecording:
    return compare_recording(*asked)


def recordings_in(folder: Path) -> list[RecordingSet]:
    """All files of recordings under a folder. Raises `UserError` for one that can't be read."""
    return [read_recordings(path) for path in sorted(folder.rglob("*.json.gz"))]


def error_table(files: Sequence[RecordingSet], judged: Sequence[ComparedRecording]) -> str:
    """The errors as Markdown with what was recorded where; one sentence when nothing was."""
    if not judged:
        return NONE_YET
    where = sorted(
        {f"{f.target.title}, driver {f.driver or 'none'}, torch {f.torch}" for f in files}
    )
    imitated = any(one.recording.source == "imitated" for one in judged)
    paragraphs = [
        f"{'Imitated for' if imitated else 'Recorded on'} {'; '.join(where)}. "
        f"Errors are predicted − recorded, of {len(judged)} runs; maximum is the most that is "
        "predicted to be reserved − recorded.",
        as_markdown(error_rows(judged)),
        error_summary(judged),
    ]
    if imitated:
        paragraphs.insert(0, "A dry run: histories are imitated and are evidence for nothing.")
    for one in judged:
        name = f"{_name(one)}, {_batch(one)}"
        if one.mismatches:
            listed = "\n".join(f"- {mismatch}" for mismatch in one.mismatches)
            paragraphs.append(f"The allocator's model departs in {name}:\n\n{listed}")
        if one.missing:
            paragraphs.append(f"Requests of {name}:\n\n{as_markdown(one.missing)}")
    return "\n\n".join(paragraphs)


def error_rows(judged: Sequence[ComparedRecording]) -> list[Row]:
    """One row a recording: the errors in bytes and percent."""
    return [_row(one) for one in judged]


def _name(one: ComparedRecording) -> str:
    candidate = one.recording.candidate
    return f"{candidate.stage}, {candidate.student.title}, {candidate.label}"


def _batch(one: ComparedRecording) -> str:
    candidate = one.recording.candidate
    return f"{candidate.micro_batch} × {candidate.accumulation}"


def _row(one: ComparedRecording) -> Row:
    row = {
        "configuration": _name(one),
        "batch": _batch(one),
        "allocator": one.recording.pins.allocator,
        "recorded reserved B": f"{one.recorded[2]:,}",
    }
    for name, error, recorded in zip(MEASURES, one.errors, one.recorded, strict=True):
        row[f"{name} error"] = _signed(error, recorded)
    row["maximum"] = _signed(one.reserved_max - one.recorded[2], one.recorded[2])
    row["segments"] = "–" if one.mismatches is None else "differ" if one.mismatches else "equal"
    row["requests"] = "–" if one.missing is None else "differ" if one.missing else "equal"
    return row


def _signed(difference: int, recorded: int) -> str:
    return f"{difference:+,} B ({100 * difference / recorded:+.3f} %)"


def error_summary(judged: Sequence[ComparedRecording]) -> str:
    """Medians, the worst, and which peak was larger than what was called safe."""
    words = []
    for index, name in enumerate(MEASURES):
        shares = [abs(one.errors[index]) / one.recorded[index] for one in judged]
        words.append(f"{name} median {100 * median(shares):.3f} %, worst {100 * max(shares):.3f} %")
    above = [f"{_name(one)}, {_batch(one)}" for one in judged if one.is_above_maximum]
    verdict = "No configuration above its maximum."
    if above:
        verdict = f"{len(above)} of {len(judged)} above the maximum: {'; '.join(above)}."
    return f"Absolute error: {'; '.join(words)}. {verdict}"
