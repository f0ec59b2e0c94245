"""Jobs of children, as values and as the JSON files that carry them. Loads no torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from bench.measure.warm_up import WarmUp
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A candidate to run under pins on a device. `cap_bytes` bounds what PyTorch may reserve."""

    candidate: Candidate
    pins: Pins
    device: str
    cap_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class TrialJob(Job):
    """A candidate to time.

    `timed_steps` are taken in `rounds`, with a pause between them, so that one bad moment of the
    machine does not make the whole reading. `cap` is how the reading calls its cap. Launches are
    counted where `count_launches` says so, as that takes seconds.
    """

    cap: str | None = None
    warm_up: WarmUp = field(default_factory=WarmUp)
    timed_steps: int = 12
    rounds: int = 3
    pause_seconds: float = 0.25
    count_launches: bool = False


def job_document(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    return {**asdict(job), "pins": job.pins.model_dump(mode="json")}


def read_job(path: Path, kind: type[T]) -> T:
    """The job in a file. Raises pydantic's `ValidationError` for what is none."""
    return TypeAdapter(kind).validate_python(json.loads(path.read_text(encoding="utf-8")))
