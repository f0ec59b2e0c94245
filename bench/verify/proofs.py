"""Proofs as values: the job, its result, and whether that is as it should be. Pure."""

from dataclasses import dataclass

from bench.measure.jobs import Job
from distill.base.units import mib
from distill.spec.proof_values import Proof, StageProof


@dataclass(frozen=True, kw_only=True)
class ProofJob(Job):
    """A candidate to train until `seconds` or `updates` are reached.

    `checkpoint` is the folder that the checkpoint is saved to, or with `resume` loaded from;
    `None` saves nothing.
    """

    seconds: float
    updates: int
    checkpoint: str | None = None
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class ProofResult:
    """The end of a proof; peaks are `None` on a CPU and where memory ended.

    `outside_bytes` is what was in use on the device beyond PyTorch's segments: the context with
    all kernels loaded, and other processes.
    """

    outcome: str
    error: str | None = None
    updates: int | None = None
    seconds: float | None = None
    reserved_bytes: int | None = None
    allocated_bytes: int | None = None
    alloc_retries: int | None = None
    outside_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes that a proof may reserve, and that may be in use on the card outside of that.

    `None`: of an imitated card it is not known what would have been in use on it.
    """

    reserved_bytes: int
    outside_bytes: int | None = None


def passes(job: ProofJob, result: ProofResult, limits: Limits) -> Proof:
    """It must end, never have retried, and have stayed within both limits."""
    words = result.error or (_excess(result, limits) if result.outcome == "ok" else None)
    return _proof(job, result, words, passed=result.outcome == "ok" and words is None)


def _excess(result: ProofResult, limits: Limits) -> str | None:
    """The excess in a proof that went through, in words."""
    room, outside = limits.outside_bytes, result.outside_bytes
    if result.alloc_retries:
        return f"the allocator retried {result.alloc_retries} time(s)"
    if result.reserved_bytes is None:
        return "no peak was measured"
    if result.reserved_bytes > limits.reserved_bytes:
        return "it reserved more than the limit"
    if room is not None and outside is not None and outside > room:
        return f"{mib(outside)} MiB were in use beside it, the limit leaves {mib(room)}"
    return None


def fails(job: ProofJob, result: ProofResult) -> Proof:
    """It must run out of memory or retry; a crash or a timeout shows nothing."""
    failed = result.outcome == "oom" or bool(result.alloc_retries)
    words = result.error or (None if failed else "it went through below what was predicted")
    return _proof(job, result, words, passed=failed)


def _proof(job: ProofJob, result: ProofResult, words: str | None, *, passed: bool) -> Proof:
    return Proof(
        cap_bytes=job.cap_bytes or 0,
        outcome="thrash" if result.outcome == "ok" and result.alloc_retries else result.outcome,
        words=words,
        updates=result.updates,
        seconds=result.seconds,
        reserved_bytes=result.reserved_bytes,
        allocated_bytes=result.allocated_bytes,
        alloc_retries=result.alloc_retries,
        outside_bytes=result.outside_bytes,
        passed=passed,
    )


def stage_line(stage: StageProof) -> str:
    """A stage's proofs and their ends in one line."""
    parts = {"trained": stage.trained, "resumed": stage.resumed, "control": stage.control}
    told = [f"{name} {_proof_words(proof)}" for name, proof in parts.items()]
    return f"{stage.stage}: {'verified' if stage.passed else 'NOT safe'} ({'; '.join(told)})"


def _proof_words(proof: Proof | None) -> str:
    if proof is None:
        return "not run"
    peak = "" if proof.reserved_bytes is None else f", peak {mib(proof.reserved_bytes)} MiB"
    retries = f", {proof.alloc_retries} retries" if proof.alloc_retries else ""
    verdict = "as it should" if proof.passed else f"NOT as it should: {proof.words or 'see above'}"
    return f"{proof.outcome} under {mib(proof.cap_bytes)} MiB{peak}{retries}, {verdict}"
