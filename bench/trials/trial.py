"""One trial: a candidate, what became of it, and the raw readings. Pure.

A trial is evidence, not a decision: medians, rates and verdicts are derived from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from distill.device.nvml import DeviceState
from distill.spec.candidate import Candidate, Count, StageName
from distill.spec.file_values import Breakdown, Bytes, ReadPins
from distill.spec.step_times import (
    CachingPass,
    PredictedTiming,
    Quartiles,
    Seconds,
    StepTiming,
    quartiles_of,
)

Outcome = Literal["ok", "oom", "thrash", "timeout", "crash", "contaminated", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Some steps timed together, and the device as they began.

    `outside_bytes` is what the device held beyond PyTorch's segments: it stands still unless
    another process moves memory. `state` is NVML's, with `None` for what it does not tell.
    """

    first_step: int
    began_seconds: float
    outside_bytes: int | None = None
    state: DeviceState | None = None
    power_source: Literal["mains", "battery"] | None = None


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A reading that was computed: bytes at the peak of a run, and how long an update takes."""

    requested_bytes: Bytes
    """Sum of the sizes that tensors and kernels ask for."""
    allocated_bytes: Bytes
    """The same as blocks, which are rounded up."""
    reserved_bytes: Bytes
    """Segments that the allocator holds of the card: what nvidia-smi shows beside the context."""
    reserved_max_bytes: Bytes
    """The largest reserved peak over the orders that the driver may give segments in, and over the
    workspaces that cuDNN may take."""
    cap_needed_bytes: Bytes
    """The smallest enforced cap under which the run goes through."""
    breakdown: Breakdown
    """Who owns each reserved byte at the peak; sums to `reserved_bytes`."""
    bound_images_per_second: Annotated[float, Field(ge=0)]
    """An upper bound by the roofline."""
    timing: PredictedTiming | None = None
    """The time of an update and what bounds it; files of before have none."""
    evaluation_batch: Count | None = None
    """Images that may be evaluated at a time without raising the peak, where it was looked for."""
    caching: CachingPass | None = None
    """The pass before the training, where that reads cached logits."""
    source: Literal["predicted"] = "predicted"

    @property
    def safe_bytes(self) -> int:
        """Bytes that must be there for the run to go through, caching included."""
        training = max(self.reserved_bytes, self.reserved_max_bytes, self.cap_needed_bytes)
        return training if self.caching is None else max(training, self.caching.peak_bytes)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A reading of a device; `None` is not measured, never 0, and `missing` says why."""

    requested_bytes: Bytes | None = None
    allocated_bytes: Bytes | None = None
    reserved_bytes: Bytes | None = None
    """Peaks of PyTorch's allocator, the first steps included."""
    cold_reserved_bytes: Bytes | None = None
    """The reserved peak of the first steps, before anything was timed."""
    alloc_retries: Annotated[int, Field(ge=0)] | None = None
    """How often the allocator gave cached memory back to go on."""
    warm_up_seconds: tuple[Seconds, ...] = ()
    """Every update of the warm-up, raw."""
    settled: bool | None = None
    """Whether the warm-up ended as its times had settled, and not at its bound."""
    step_seconds: tuple[Seconds, ...] = ()
    """Every timed update, raw."""
    quartiles: Quartiles | None = None
    """Of `step_seconds`: derived from them whatever is given, so that they always agree."""
    card_seconds: Seconds | None = None
    """The card's own time for one update, when it need not wait for the host."""
    launches: Count | None = None
    """Kernels, copies and fills that one update has the card do."""
    rounds: tuple[Round, ...] = ()
    held: dict[str, Bytes] | None = None
    """Bytes by owner, as far as tensors can be counted one by one."""
    device_used_before_bytes: Bytes | None = None
    device_used_after_bytes: Bytes | None = None
    device_used_bytes: Bytes | None = None
    """In use on the whole device, by everybody: before a context, after it, and at the end."""
    process_bytes: Bytes | None = None
    """What NVML says that this process holds."""
    context_bytes: Bytes | None = None
    cap: str | None = None
    """`native`, or on which larger card the cap was enforced."""
    missing: dict[str, str] | None = None
    caching: CachingPass | None = None
    """The pass before the training, from a trial of its own."""
    source: Literal["measured"] = "measured"

    def __post_init__(self) -> None:
        found = quartiles_of(self.step_seconds) if self.step_seconds else None
        object.__setattr__(self, "quartiles", found)

    @property
    def safe_bytes(self) -> int | None:
        """Bytes that must be there for the run to go through, as far as this run shows."""
        if self.reserved_bytes is None or self.caching is None:
            return self.reserved_bytes
        return max(self.reserved_bytes, self.caching.peak_bytes)


Reading = Annotated[Predicted | Measured, Field(discriminator="source")]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Card, limit, versions and source of a reading. Only equal conditions are compared."""

    card: str
    driver: str | None
    cap_bytes: int | None
    torch: str
    timm: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`error` is one line of what went wrong or why it was skipped.

    `stderr` is the end of what a child that failed left there, without the home folder. `turn`
    counts the processes that timed the candidate before, in turn with its rivals.
    """

    candidate: Candidate
    conditions: Conditions
    pins: ReadPins
    outcome: Outcome
    reading: Reading | None
    error: str | None = None
    stderr: str | None = None
    turn: Annotated[int, Field(ge=0)] = 0

    @property
    def images_per_second(self) -> float | None:
        """Measured from the median step if it was timed, else predicted, else the bound."""
        match self.reading:
            case Predicted(timing=PredictedTiming() as timing):
                return self.candidate.effective_batch / timing.seconds
            case Predicted(bound_images_per_second=bound):
                return bound
            case Measured(quartiles=Quartiles(median_seconds=seconds)):
                return self.candidate.effective_batch / seconds
        return None

    @property
    def bound_images_per_second(self) -> float:
        """The roofline's bound of a predicted trial; 0 of any other."""
        reading = self.reading
        return reading.bound_images_per_second if isinstance(reading, Predicted) else 0.0

    @property
    def predicted_timing(self) -> PredictedTiming | None:
        """The predicted time of an update, where it was predicted."""
        return self.reading.timing if isinstance(self.reading, Predicted) else None

    @property
    def quartiles(self) -> Quartiles | None:
        """The quartiles of its times, where it was timed."""
        return self.reading.quartiles if isinstance(self.reading, Measured) else None

    @property
    def timing(self) -> StepTiming | None:
        """What was read of its times, as a profile keeps it."""
        if not isinstance(self.reading, Measured) or self.reading.quartiles is None:
            return None
        return StepTiming(
            updates=len(self.reading.step_seconds),
            processes=self.turn + 1,
            quartiles=self.reading.quartiles,
            card_seconds=self.reading.card_seconds,
            launches=self.reading.launches,
        )

    def holds(self, conditions: Conditions) -> bool:
        """Tell whether the trial would have ended the same under those conditions.

        They are its own, or those of a measurement but for a cap that decides nothing: what others
        hold of a card with a desktop, and so the cap, is a little different every time.
        """
        cap, own = conditions.cap_bytes, self.conditions.cap_bytes
        if cap == own or cap is None or own is None:
            return conditions == self.conditions
        reading = self.reading
        if isinstance(reading, Predicted) or replace(self.conditions, cap_bytes=cap) != conditions:
            return False
        if self.outcome in ("oom", "thrash"):
            return cap <= own
        if self.outcome != "ok" or reading is None or reading.reserved_bytes is None:
            return False
        return reading.reserved_bytes <= min(cap, own)


def by_stage(trials: Iterable[Trial]) -> dict[StageName, list[Trial]]:
    """Trials gathered by stage, in the order in which stages first occur."""
    gathered: dict[StageName, list[Trial]] = {}
    for trial in trials:
        gathered.setdefault(trial.candidate.stage, []).append(trial)
    return gathered
