"""Questions to `bench`: the need of a configuration, and the changes that would lower it.

`distill` never imports `bench`: it runs `python -m bench predict` as a child and reads its JSON.
Every number here is predicted, and is told as such.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.base.children import raise_if_asked_to_stop, run_command
from distill.base.errors import NoSafeChoice, UserError
from distill.base.scratch import scratch_folder
from distill.base.signals import KEPT
from distill.base.units import MIB, bytes_text, mib
from distill.spec.candidate import Allocator, Candidate
from distill.spec.profile import Choice, Profile, Target
from distill.spec.recipe import Recipe
from distill.spec.stage_plan import StagePlan
from distill.spec.step_times import CachingPass

TIMEOUT_SECONDS = 300
MOST_HELPFUL = 3


@dataclass(frozen=True, kw_only=True)
class AdvisedChange:
    """A change of the configuration, in words, its need of memory and how much less that is."""

    change: str
    needed_bytes: int
    saved_bytes: int


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The most a configuration needs, and changes that would help, the most helpful first.

    `breakdown` says who owns each of the `reserved_bytes` at the peak. `caching` is
    the pass that caches the teacher's logits, where there is one.
    """

    needed_bytes: int
    gains: tuple[AdvisedChange, ...]
    reserved_bytes: int
    breakdown: dict[str, int]
    caching: CachingPass | None = None


class Unanswered(Exception):
    """The child gave no prediction; the message says why."""


def ask_bench(
    recipe: Recipe, candidate: Candidate, *, target: Target | None, allocator: Allocator
) -> Advice:
    """Predict `candidate` on the card `target`, in a child process of about ten seconds.

    Without a target it is `bench`'s own, an RTX 4050 Laptop.

    Raises `Unanswered` when there is no prediction to be had.
    """
    document = _asked(
        recipe,
        candidate,
        ["--batch-size", str(candidate.micro_batch), "--explain"],
        accumulation=str(candidate.accumulation),
        target=target,
        allocator=allocator,
    )
    return _advice(document)


def largest_fitting_batch(recipe: Recipe, candidate: Candidate, profile: Profile) -> int | None:
    """The largest micro-batch of whole updates that is predicted to fit in the profile's limit.

    `None` where none does, or where there is no prediction to be had.
    """
    limit = ["--max-batch", "--limit-mib", str(profile.budget.limit_bytes // MIB)]
    try:
        document = _asked(
            recipe,
            candidate,
            limit,
            accumulation="recipe",
            target=profile.target,
            allocator=profile.allocator,
        )
    except Unanswered:
        return None
    return int(document["max_batch"]) or None


def _asked(
    recipe: Recipe,
    candidate: Candidate,
    question: Sequence[str],
    *,
    accumulation: str,
    target: Target | None,
    allocator: Allocator,
) -> dict[str, Any]:
    """The answer of `bench predict` as JSON. Raises `Unanswered` with the child's reason."""
    with scratch_folder("distill-advice") as folder:
        recipe_file = folder / "recipe.json"
        recipe_file.write_text(recipe.model_dump_json(), encoding="utf-8")
        command = [*_command(recipe_file, candidate, allocator), "--accumulation", accumulation]
        command += question
        if target is not None:
            target_file = folder / "target.json"
            target_file.write_text(target.model_dump_json(), encoding="utf-8")
            command += ["--target", str(target_file)]
        try:
            child = run_command(
                "bench", *command, stderr=subprocess.PIPE, timeout_seconds=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise Unanswered(f"no prediction within {TIMEOUT_SECONDS} s") from error
    raise_if_asked_to_stop(child.returncode, KEPT)
    if child.returncode not in (0, NoSafeChoice.exit_code):  # what does not fit is predicted too
        raise Unanswered((child.stderr.strip().splitlines() or ["no reason given"])[-1])
    document: dict[str, Any] = json.loads(child.stdout)
    return document


def check_override(recipe: Recipe, plan: StagePlan, profile: Profile) -> tuple[str, Choice | None]:
    """Hold what the command line asks for over the profile against the prediction.

    Returns a line that says what it will need, and that as a choice in the place of the
    profile's, if a prediction could be had. Raises `UserError` when it does not fit.
    """
    candidate = plan.overridden
    assert candidate is not None
    limit_bytes = profile.budget.limit_bytes
    try:
        advice = ask_bench(recipe, candidate, target=profile.target, allocator=profile.allocator)
    except Unanswered as error:
        return f"not what the profile chose, and not held against a prediction ({error})", None
    what = f"{_title(candidate)} needs {bytes_text(advice.needed_bytes)} (predicted)"
    if advice.needed_bytes > limit_bytes:
        raise UserError(
            f"Stage {candidate.stage}: {what}, the profile allows {bytes_text(limit_bytes)}. "
            f"{_gains_text(advice.gains)} Or leave the choice to the profile."
        )
    choice = Choice(
        stage=candidate.stage,
        student=candidate.student.title,
        teacher=candidate.teacher.title if candidate.teacher else None,
        candidate=candidate,
        peak_reserved_bytes=advice.reserved_bytes,
        breakdown=advice.breakdown,
        images_per_second=None,
        source="predicted",
        teacher_views=plan.cached_views,
        caching=advice.caching,
    )
    rest = plan.training.effective_batch % candidate.micro_batch
    uneven = f"; an update's last {rest} images are not predicted, and may need more" * bool(rest)
    allowed = f"of {bytes_text(limit_bytes)} allowed"
    return f"not what the profile chose: {what}, {allowed}{uneven}", choice


def out_of_memory_advice(recipe: Recipe, candidate: Candidate, profile: Profile | None) -> str:
    """The changes that would help a stage that can't be cut smaller, and the saving of each."""
    target = None if profile is None else profile.target
    card = "an RTX 4050 Laptop" if target is None else target.title
    allocator: Allocator = "expandable" if profile is None else profile.allocator
    try:
        advice = ask_bench(recipe, candidate, target=target, allocator=allocator)
    except Unanswered as error:
        return (
            f"No prediction could be made ({error}). End other programs that use the GPU, "
            "or choose a smaller model."
        )
    return (
        f"{_title(candidate)} needs {bytes_text(advice.needed_bytes)} "
        f"(predicted for {card}). {_gains_text(advice.gains)} "
        "Or end other programs that use the GPU, or choose a smaller model."
    )


def _command(recipe_file: Path, candidate: Candidate, allocator: Allocator) -> list[str]:
    return [
        *("predict", "--json"),
        *("--recipe", str(recipe_file), "--stage", candidate.stage),
        *("--precision", candidate.precision, "--checkpointing", str(candidate.checkpointing)),
        *("--optimizer", candidate.optimizer, "--implementation", candidate.implementation),
        *("--allocator", allocator),
        *(["--deterministic"] if candidate.deterministic else []),
        *(["--teacher", candidate.teacher_logits] if candidate.teacher else []),
    ]


def _advice(document: dict[str, Any]) -> Advice:
    return Advice(
        needed_bytes=document["peak_reserved_max_bytes"],
        gains=tuple(
            AdvisedChange(
                change=gain["change"],
                needed_bytes=gain["needed_bytes"],
                saved_bytes=gain["saved_bytes"],
            )
            for gain in document["explain"]
        ),
        reserved_bytes=document["peak_reserved_bytes"],
        breakdown=document["breakdown"],
        caching=_caching(document),
    )


def _caching(document: dict[str, Any]) -> CachingPass | None:
    if "caching_peak_bytes" not in document:
        return None
    return CachingPass(
        peak_bytes=document["caching_peak_bytes"],
        images_per_second=document["caching_images_per_second"],
    )


def _gains_text(gains: tuple[AdvisedChange, ...]) -> str:
    helpful = [gain for gain in gains if gain.saved_bytes > 0][:MOST_HELPFUL]
    if not helpful:
        return "No change of precision, checkpointing, batch or optimizer would need less."
    parts = [
        f"{gain.change} saves {mib(gain.saved_bytes)} MiB (then {mib(gain.needed_bytes)} MiB)"
        for gain in helpful
    ]
    return f"What would help, predicted: {'; '.join(parts)}."


def _title(candidate: Candidate) -> str:
    cached = ", cached teacher" if candidate.teacher_logits == "cached" else ""
    return (
        f"{candidate.micro_batch} × {candidate.accumulation} images, {candidate.precision}, "
        f"checkpointing {candidate.checkpointing}, {candidate.optimizer}{cached}"
    )
