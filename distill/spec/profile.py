"""The profile: what was chosen for a card, the arithmetic behind it, and the evidence.

The one file in which `bench` (which writes it) and `distill` (which obeys it) meet. Small on
purpose: trials live in the journal that `evidence` names.
"""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_serializer,
    model_validator,
)

from distill.base.errors import UserError
from distill.base.files import write_json
from distill.base.reading import read_json
from distill.spec.calibration import Calibration
from distill.spec.candidate import Allocator, Candidate, StageName, written_candidate
from distill.spec.file_values import Breakdown, Bytes, Capability, CardBytes, PerSecond, ReadPins
from distill.spec.frozen import FrozenModel, unsaid
from distill.spec.proof_values import Verification
from distill.spec.recipe import Recipe, recipe_names
from distill.spec.step_times import CachingPass, PredictedTiming, StepTiming
from distill.spec.training import TeacherViews
from distill.spec.validated import document_as

SCHEMA_VERSION: Literal[1] = 1

Source = Literal["measured", "assumed"]
NumberSource = Literal["measured", "predicted"]


class Target(FrozenModel):
    """The card that a number is for. Rates are the maker's figures, per second.

    `calibration` is what was measured on it beside them; without one that of another machine is
    assumed.
    """

    name: str
    title: str
    compute_capability: Capability
    multiprocessors: Annotated[int, Field(ge=1, le=1024)]
    threads_per_multiprocessor: Annotated[int, Field(ge=32, le=8192)]
    total_bytes: CardBytes
    fp32_flops: PerSecond
    half_flops: PerSecond
    bandwidth_bytes: PerSecond
    calibration: Calibration | None = Field(default=None, exclude_if=unsaid)


class Budget(FrozenModel):
    """card total − context − desktop − margin = what PyTorch may reserve."""

    nominal_gib: Annotated[float, Field(gt=0)]
    card_total_bytes: Bytes
    card_total_source: Source
    context_bytes: Bytes
    context_source: Source
    desktop_bytes: Bytes
    desktop_source: Source
    margin_bytes: Bytes
    margin_source: Source
    limit_bytes: Bytes

    @model_validator(mode="after")
    def _adds_up(self) -> "Budget":
        spent_bytes = self.context_bytes + self.desktop_bytes + self.margin_bytes
        if self.limit_bytes != self.card_total_bytes - spent_bytes:
            raise ValueError(
                f"limit_bytes = {self.limit_bytes} is not card_total_bytes less what is spent, "
                f"{self.card_total_bytes - spent_bytes}"
            )
        return self


class Choice(FrozenModel):
    """One teacher–student pair and the fastest configuration that is safe for it.

    `breakdown` is predicted: who owns each byte at the peak. It sums to the predicted peak,
    which is `peak_reserved_bytes` unless `source` says that this one was measured.
    `cap_needed_bytes`, predicted too, is the smallest cap under which nothing is retried. `timing`
    is what was measured of `images_per_second`; a choice that nothing timed is written without it.
    Where the teacher's logits are cached, `teacher_views` of each image are, and making them needs
    `caching_peak_bytes` (predicted) before the training begins.
    `predicted_timing` is what was predicted; without it `images_per_second` of a predicted choice
    is a roofline's bound (files of before). `stage_seconds` is the whole stage under the recipe.
    """

    stage: StageName
    student: str
    teacher: str | None
    candidate: Candidate
    peak_reserved_bytes: Bytes
    breakdown: Breakdown
    cap_needed_bytes: Bytes | None = None
    images_per_second: Annotated[float, Field(gt=0)] | None
    source: NumberSource
    timing: StepTiming | None = Field(default=None, exclude_if=unsaid)
    teacher_views: TeacherViews | None = Field(default=None, exclude_if=unsaid)
    caching: CachingPass | None = Field(default=None, exclude_if=unsaid)
    predicted_timing: PredictedTiming | None = Field(default=None, exclude_if=unsaid)
    stage_seconds: Annotated[float, Field(gt=0)] | None = Field(default=None, exclude_if=unsaid)

    @field_serializer("candidate")
    def _without_later_keys(self, candidate: Candidate) -> dict[str, Any]:
        return written_candidate(candidate)

    @model_validator(mode="after")
    def _agrees(self) -> "Choice":
        predicted_bytes = sum(self.breakdown.values())
        if self.source == "predicted" and predicted_bytes != self.peak_reserved_bytes:
            raise ValueError(
                f"peak_reserved_bytes = {self.peak_reserved_bytes}, but its breakdown sums to "
                f"{predicted_bytes}"
            )
        if self.candidate.stage != self.stage:
            raise ValueError(f"it is for stage {self.stage}, its candidate for another")
        mode = self.candidate.teacher_logits
        if mode == "caching" or (mode == "cached") != (self.teacher_views is not None):
            raise ValueError(f"teacher_logits {mode} and teacher_views {self.teacher_views}")
        return self


class RecipeMark(FrozenModel):
    """The recipe that the profile is for."""

    name: str
    digest: str


class Fingerprint(FrozenModel):
    """The machine that the numbers hold for. Of a predicted profile only the versions are known.

    `step` is a hash of the source that decides what an update allocates (`fingerprint`).
    """

    torch: str
    timm: str
    card: str | None = None
    card_total_bytes: Bytes | None = None
    compute_capability: tuple[int, int] | None = None
    driver: str | None = None
    step: str | None = None


class Profile(FrozenModel):
    """`status` is `predicted` until the choices ran again, longer, under an enforced cap."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    status: Literal["predicted", "verified"]
    recipe: RecipeMark
    target: Target
    budget: Budget
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]
    pins: Annotated[dict[StageName, ReadPins], Field(min_length=1)]
    fingerprint: Fingerprint
    verification: Verification | None = None
    evidence: tuple[str, ...]

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> "Profile":
        stages = [choice.stage for choice in self.choices]
        if len(set(stages)) < len(stages):
            raise ValueError("a stage has more than one choice")
        if not self.pins.keys() >= set(stages):
            raise ValueError("a stage has a choice and no pins")
        if len({pins.allocator for pins in self.pins.values()}) > 1:
            raise ValueError("the stages have different allocators")
        return self

    @property
    def needed_bytes(self) -> int:
        """The largest peak of all choices."""
        return max(choice.peak_reserved_bytes for choice in self.choices)

    @property
    def allocator(self) -> Allocator:
        """The allocator that every choice was made for."""
        return next(iter(self.pins.values())).allocator

    def recipe_name(self) -> str:
        """The name by which the recipe can be had. Raises `UserError` where it was a file."""
        name = self.recipe.name
        if name.partition(":")[0] not in recipe_names():
            raise UserError(
                f"Profile {self.name} is for recipe {name}, which is a file of yours. Name it too: "
                "--recipe FILE."
            )
        return name

    def choice_for(self, recipe: Recipe, stage: StageName) -> Choice:
        """The choice for that stage of that recipe.

        Raises `UserError` when the profile was made for other models, data or batch.
        """
        for choice in self.choices:
            if choice.stage == stage:
                _check_same_work(self, choice, recipe.candidate(stage))
                return choice
        raise UserError(
            f"Profile {self.name} has no choice for stage {stage}. "
            f"Make one that has: bench probe --recipe {recipe.name}."
        )


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises `UserError` for what is no profile, or one of another schema."""
    document = read_json(
        path,
        "profile",
        unreadable_cure="Make one: bench probe --vram 6.",
        damaged_cure="Make it again: bench probe.",
    )
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version is None:
        raise UserError(
            f"{path} is no profile: it has no schema_version. Make one: bench probe --vram 6."
        )
    if version != SCHEMA_VERSION:
        raise UserError(
            f"Profile {path} has schema version {version!r}; this program reads {SCHEMA_VERSION}. "
            "Make it again: bench probe."
        )
    return document_as(Profile, document, f"Profile {path}", "Make it again: bench probe.")


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile whole."""
    write_json(path, profile.model_dump(mode="json"))


def _check_same_work(profile: Profile, choice: Choice, asked: Candidate) -> None:
    """The profile's numbers hold only for the models, pixels and batch they were made for."""
    made = choice.candidate
    pairs = {
        "student": (made.student, asked.student),
        "teacher": (made.teacher, asked.teacher),
        "input": (made.input.unmixed, asked.input.unmixed),
        "effective batch": (made.effective_batch, asked.effective_batch),
        "gradient clipping": (made.clip_norm, asked.clip_norm),
    }
    for what, (in_profile, in_recipe) in pairs.items():
        if in_profile != in_recipe:
            raise UserError(
                f"Profile {profile.name} is for another {what} in stage {choice.stage}: "
                f"{_difference(in_profile, in_recipe)}. Make one for this recipe: bench probe."
            )


def _difference(in_profile: object, in_recipe: object) -> str:
    """The differences, by field where both are specs of one kind."""
    sides = [("", in_profile, in_recipe)]
    if is_dataclass(in_profile) and is_dataclass(in_recipe):
        names = [field.name for field in fields(in_profile)]
        sides = [(f"{n} ", getattr(in_profile, n), getattr(in_recipe, n)) for n in names]
    return "; ".join(
        f"{name.replace('_', ' ')}{made} in the profile, {asked} in the recipe"
        for name, made, asked in sides
        if made != asked
    )
