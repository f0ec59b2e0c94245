"""Advice: other configurations of the same work that need less memory, each predicted anew.

Proposes and ranks; each proposal says whether it changes what is learnt.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from distill.base.errors import UserError
from distill.spec.candidate import Candidate, Precision


@dataclass(frozen=True)
class Proposal:
    """One change, in words, and the candidate that it makes."""

    words: str
    candidate: Candidate


@dataclass(frozen=True)
class Gain:
    """The bytes that a proposal would need, how many fewer that is, and how fast it would be."""

    proposal: Proposal
    needed_bytes: int
    saved_bytes: int
    images_per_second: float


def proposals(candidate: Candidate, *, half: Precision = "bf16") -> list[Proposal]:
    """The next step along each axis that there is: checkpointing, precision, batch, optimizer."""
    found: list[Proposal] = []

    def offer(words: str, changed: Candidate) -> None:
        if changed != candidate:
            found.append(Proposal(words, changed))

    if candidate.checkpointing not in ("cheap", 1):
        offer("run again what is cheap", replace(candidate, checkpointing="cheap"))
    if candidate.checkpointing == 0:
        offer("checkpoint every 2nd block", replace(candidate, checkpointing=2))
    if candidate.checkpointing != 1:
        offer("checkpoint every block", replace(candidate, checkpointing=1))
    if candidate.precision == "fp32":
        offer(f"{half} instead of fp32", replace(candidate, precision=half))
    if candidate.online_teacher is not None and not candidate.input.mixes:
        offer("--teacher cached (its views repeat)", replace(candidate, teacher_logits="cached"))
    if candidate.micro_batch > 1:
        smaller = _with_half_the_batch(candidate)
        images = "1 image" if smaller.micro_batch == 1 else f"{smaller.micro_batch} images"
        offer(f"{images} at a time, {smaller.accumulation} times an update", smaller)
    offer("fused optimizer", replace(candidate, implementation="fused"))
    if candidate.optimizer != "sgd":
        words = "SGD instead of " + ("AdamW" if candidate.optimizer == "adamw" else "Adam")
        offer(f"{words} (learns otherwise)", replace(candidate, optimizer="sgd"))
    return found


def gains(
    candidate: Candidate,
    predict: Callable[[Candidate], tuple[int, float]],
    *,
    half: Precision = "bf16",
) -> list[Gain]:
    """Every proposal that saves something, the most helpful first.

    `predict` gives the bytes that a candidate needs and its images a second. One that the model
    does not take (`UserError`) is no proposal.
    """
    now, _ = predict(candidate)
    found = []
    for proposal in proposals(candidate, half=half):
        try:
            then, speed = predict(proposal.candidate)
        except UserError:
            continue
        if then < now:
            found.append(Gain(proposal, then, now - then, speed))
    return sorted(found, key=lambda gain: -gain.saved_bytes)


def _with_half_the_batch(candidate: Candidate) -> Candidate:
    """As many images an update in at most half as large parts."""
    whole = candidate.effective_batch
    half = candidate.micro_batch // 2
    batch = next(size for size in range(half, 0, -1) if whole % size == 0)
    return replace(candidate, micro_batch=batch, accumulation=whole // batch)
