"""A prediction as values: peaks, who owns them, how fast at most. Loads no torch."""

from dataclasses import dataclass

from distill.spec.candidate import Candidate
from distill.spec.pins import Pins
from distill.spec.profile import Target
from distill.spec.step_times import PredictedTiming


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One storage that is alive at the peak, and who asked for it."""

    size_bytes: int
    owner: str
    op: str
    module: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Bytes that a training run needs on a target; nothing here was measured.

    `reserved_max` is the largest peak over the orders that the driver may give segments in and
    over the workspaces that cuDNN may take; `workspace_bound` is what of it is for the latter.
    Without convolutions whose workspace only a card could tell, and with expandable segments, it
    is equal to `reserved`. `cap_needed` is the smallest enforced cap that lets the run go through
    with the workspaces that are predicted: where a larger one finds no room, PyTorch takes the
    next plan of cuDNN (Conv_v8.cpp, try_configs). `breakdown` sums to `reserved`.
    `images_per_second` is a bound, `timing` what is expected. `largest_evaluation_batch` is known
    only where it was looked for. `caching` is of the pass that makes the teacher's logits before
    the training, where it reads them. Of `replicas` processes that train together it is one.
    """

    candidate: Candidate
    target: Target
    pins: Pins
    requested: int
    allocated: int
    reserved: int
    reserved_max: int
    cap_needed: int
    breakdown: dict[str, int]
    peak_phase: str
    peak_part: str
    largest: tuple[Allocation, ...]
    images_per_second: float
    timing: PredictedTiming
    trace_seconds: float
    torch: str
    largest_evaluation_batch: int | None = None
    workspace_bound: int = 0
    caching: "Prediction | None" = None
    replicas: int = 1

    @property
    def expected_images_per_second(self) -> float:
        """Images a second that this process is expected to reach."""
        return self.candidate.effective_batch / self.timing.seconds

    @property
    def safe_bytes(self) -> int:
        """Bytes with which the run goes through, whatever the order of segments.

        What comes before the training has to go through too.
        """
        before = 0 if self.caching is None else self.caching.safe_bytes
        return max(self.reserved_max, self.cap_needed, before)


@dataclass(frozen=True)
class Unavailable:
    """A cell that its model or a kernel refuses, and why in a sentence."""

    candidate: Candidate
    words: str
